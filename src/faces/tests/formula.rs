//! Formulas: what is read, and what is made of the operands.

use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    Formula::parse(text).map_or_else(|error| error.to_string(), |formula| formula.to_string())
}

#[test]
fn operators_bind_as_in_python_and_from_left_to_right() {
    for (text, same) in [
        ("a", "a"),
        (" ( ( a ) ) ", "a"),
        ("a|b&c", "a | b & c"),
        ("(a|b)&c", "(a | b) & c"),
        ("a ^ b | c", "a ^ b | c"),
        ("a ^ (b | c)", "a ^ (b | c)"),
        ("a & b ^ c - d", "a & b ^ c - d"),
        ("a & (b - c)", "a & b - c"),
        ("(a & b) - c", "(a & b) - c"),
        ("a - b - c", "a - b - c"),
        ("a - (b - c)", "a - (b - c)"),
        ("a | (b | c)", "a | (b | c)"),
        // A dash is a letter first.
        ("news-bot", "news-bot"),
        ("a-b - c-d", "a-b - c-d"),
        ("a -b", "a - b"),
        ("(a)-b", "a - b"),
        ("-a - -b", "-a - -b"),
        ("1984 | 2b", "1984 | 2b"),
        ("a\t|\nb", "a | b"),
    ] {
        assert_eq!(canonical(text), same, "{text}");
    }
}

#[test]
fn a_fault_is_told_with_its_column() {
    let deep = format!("{}a{}", "(".repeat(33), ")".repeat(33));
    let many = (0..17).map(|number| format!("f{number}")).collect::<Vec<_>>().join("|");
    let long = format!("a{}", " - b".repeat(64));
    assert!(Formula::parse(&long[..long.len() - 4]).is_ok());
    for (text, column, word) in [
        (long.as_str(), 257, "at most 64 usernames"),
        ("", 1, "username"),
        ("  ", 3, "username"),
        ("a |", 4, "username"),
        ("a b", 3, "must stand here"),
        ("a- b", 4, "must stand here"),
        ("| a", 1, "before `|`"),
        ("a & | b", 5, "before `|`"),
        ("a - - b", 5, "before `-`"),
        ("-", 1, "before `-`"),
        ("(a", 1, "never closed"),
        ("a | (b & (c)", 5, "never closed"),
        ("a)", 2, "closes nothing"),
        ("()", 2, "not `)`"),
        ("(a b)", 4, "must stand here"),
        ("Alice", 1, "'A'"),
        ("a | é", 5, "'é'"),
        ("a + b", 3, "'+'"),
        ("a | stats", 5, "stats"),
        ("a | a23456789012345678901234567890123", 5, "32"),
        (&deep, 33, "32"),
        (&many, 55, "16"),
        (&format!("a{}", " ".repeat(1_000)), 1_001, "1000"),
    ] {
        let error = Formula::parse(text).unwrap_err();
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.message.contains(word), "{text}: {error}");
        let error = FaceFields::parse(json!({"formula": text}).to_string().as_bytes());
        if !text.trim().is_empty() {
            assert!(error.unwrap_err().to_string().starts_with("formula: column "), "{text}");
        }
    }
    assert!(Formula::parse(&format!("{}a{}", "(".repeat(32), ")".repeat(32))).is_ok());
}

/// An operand with facts and with statements of [`Component::Beta`].
fn operand(name: &str, facts: &serde_json::Value, texts: &[&str]) -> Operand {
    Operand {
        username: FaceName::parse(name).unwrap(),
        facts: Facts::normalise(facts).unwrap().0,
        primitives: texts.iter().map(|text| Primitive::new(Component::Beta, *text)).collect(),
    }
}

fn texts(primitives: &[Primitive]) -> Vec<&str> {
    primitives.iter().map(|primitive| primitive.text.as_str()).collect()
}

#[test]
fn operators_are_those_of_sets_and_the_left_ones_words_stay() {
    let operands = [
        operand(
            "a",
            &json!({"age": 1, "city": "Ghent"}),
            &["Likes tea.", "Walks to work.", "Plays chess."],
        ),
        operand("b", &json!({"age": 2, "state": "x"}), &["likes  TEA", "Owns a boat.", "Sings."]),
        operand("c", &json!({"religion": "none"}), &["Sings.", "Plays chess."]),
    ];
    let made = |formula: &str| Formula::parse(formula).unwrap().evaluate(&operands);
    for (formula, expected) in [
        ("a", &["Likes tea.", "Walks to work.", "Plays chess."][..]),
        ("a & c", &["Plays chess."]),
        ("a - c", &["Likes tea.", "Walks to work."]),
        ("a ^ c", &["Likes tea.", "Walks to work.", "Sings."]),
        ("a | c", &["Likes tea.", "Walks to work.", "Plays chess.", "Sings."]),
        ("a - b", &["Walks to work.", "Plays chess."]),
        ("b & a", &["likes  TEA"]),
        ("(a | b) & c", &["Plays chess.", "Sings."]),
        ("a | b & c", &["Likes tea.", "Walks to work.", "Plays chess.", "Sings."]),
        ("a - a", &[]),
        ("nobody | c", &["Sings.", "Plays chess."]),
    ] {
        assert_eq!(texts(&made(formula).1), expected, "{formula}");
    }
    let fact = |formula: &str, key: &str| made(formula).0.get(key).map(str::to_owned);
    for (formula, key, value) in [
        ("a | b", "age", Some("1")),
        ("b & a", "age", Some("2")),
        ("a | b", "state", Some("x")),
        ("a - b", "state", None),
        ("a - b", "age", Some("1")),
        ("a ^ (c - b)", "religion", Some("none")),
    ] {
        assert_eq!(fact(formula, key).as_deref(), value, "{formula} {key}");
    }
}

#[test]
fn statements_that_are_alike_are_one_within_their_component() {
    let both = |left: &str, right: &str| {
        let operands = [operand("a", &json!({}), &[left]), operand("b", &json!({}), &[right])];
        Formula::parse("a & b").unwrap().evaluate(&operands).1.len()
    };
    assert_eq!(both("Drinks green tea every morning.", "Every morning I drink green tea"), 1);
    assert_eq!(both("Drinks green tea every morning.", "Drinks black coffee every morning."), 0);
    assert_eq!(both("Eats meat.", "Doesn't eat meat."), 0);
    assert_eq!(both("?!", "?! "), 1, "without a word only the text counts");
    assert_eq!(both("?!", "!?"), 0);
    let mut other = operand("b", &json!({}), &["Likes tea."]);
    other.primitives[0].component = Component::Alpha;
    let operands = [operand("a", &json!({}), &["Likes tea."]), other];
    assert_eq!(Formula::parse("a & b").unwrap().evaluate(&operands).1.len(), 0);
}

fn formula() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b-1", "-c", "4d"]);
    let leaf = name.prop_map(str::to_owned);
    leaf.prop_recursive(6, 40, 2, |inner| {
        let sign = prop::sample::select(vec!["|", "&", "^", "-"]);
        (inner.clone(), sign, inner, any::<bool>()).prop_map(|(left, sign, right, brackets)| {
            if brackets {
                format!("({left} {sign} {right})")
            } else {
                format!("{left} {sign} {right}")
            }
        })
    })
}

/// Sets of single words, which are alike only when they are equal.
fn words() -> impl Strategy<Value = Vec<&'static str>> {
    let all = vec!["tea", "moss", "violin", "granite", "parsley", "9"];
    prop::sample::subsequence(all, 0..=6)
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>(), close in "[a-c()|&^ -]{0,60}") {
        for text in [text, close] {
            match Formula::parse(&text) {
                Ok(formula) => prop_assert!(!formula.operands().is_empty()),
                Err(error) => prop_assert!((1..=text.chars().count() + 1).contains(&error.column)),
            }
        }
    }

    #[test]
    fn the_canonical_form_is_the_same_formula(text in formula()) {
        let read = Formula::parse(&text).unwrap();
        let shown = read.to_string();
        let again = Formula::parse(&shown).unwrap();
        prop_assert_eq!(again.root(), read.root(), "{}", &shown);
        prop_assert_eq!(again.operands(), read.operands());
        prop_assert_eq!(again.to_string(), shown);
    }

    #[test]
    fn the_laws_of_sets_hold(a in words(), b in words(), c in words()) {
        let nothing = json!({});
        let operands = [
            operand("a", &nothing, &a),
            operand("b", &nothing, &b),
            operand("c", &nothing, &c),
        ];
        let set = |formula: &str| -> Vec<String> {
            let (_, made) = Formula::parse(formula).unwrap().evaluate(&operands);
            let mut made: Vec<String> = made.into_iter().map(|one| one.text).collect();
            made.sort_unstable();
            made
        };
        for (left, right) in [
            ("a | b", "b | a"),
            ("a & b", "b & a"),
            ("a ^ b", "b ^ a"),
            ("a | (b | c)", "a | b | c"),
            ("a & (b & c)", "a & b & c"),
            ("a ^ (b ^ c)", "a ^ b ^ c"),
            ("a & (b | c)", "a & b | a & c"),
            ("a - (b | c)", "a - b - c"),
            ("a - (b & c)", "(a - b) | (a - c)"),
            ("a ^ b", "(a | b) - (a & b)"),
            ("(a - b) | (a & b)", "a"),
            ("a | a", "a"),
            ("a & a", "a"),
        ] {
            prop_assert_eq!(set(left), set(right), "{} = {}", left, right);
        }
        prop_assert!(set("a - a").is_empty() && set("a ^ a").is_empty());
    }
}
