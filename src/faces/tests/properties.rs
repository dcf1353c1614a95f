//! Properties that hold for any input.

use proptest::prelude::*;

use super::*;

fn primitive() -> impl Strategy<Value = Primitive> {
    let component = prop::sample::select(Component::ALL.to_vec());
    let words = prop::collection::vec(
        prop::sample::select(vec!["tea", "sea", "Bach", "猫", "é", "\n#"]),
        0..12,
    );
    let text = prop_oneof![words.prop_map(|words| words.join(" ")), any::<String>()];
    let weight = prop_oneof![Just(1.0), 0.0..=WEIGHT_MAX, any::<f64>()];
    (component, text, weight).prop_map(|(component, text, weight)| Primitive {
        component,
        text,
        weight,
    })
}

fn conversation() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "(tea|sea|bach|猫| |\n){0,200}", "\\PC{0,20000}"]
}

proptest! {
    #[test]
    fn a_prompt_keeps_its_budget_its_facts_and_its_order(
        name in any::<String>(),
        city in "\\PC{0,400}",
        primitives in prop::collection::vec(primitive(), 0..60),
        tokens_max in 0_u64..3_000,
        conversation in conversation(),
    ) {
        let face = face(&name, &json!({"age": 30, "city": city}));
        let frame = Persona::prepare(face.clone(), &primitives, 0).compose("");
        let full = Persona::prepare(face.clone(), &primitives, u64::MAX);
        let persona = Persona::prepare(face.clone(), &primitives, tokens_max);
        let prompt = persona.compose(&conversation);

        prop_assert!(estimate_tokens(&prompt) <= tokens_max.max(estimate_tokens(&frame)));
        prop_assert!(prompt.contains("- Age: 30\n"));
        prop_assert_eq!(&prompt, &persona.compose(&conversation), "same persona, same conversation");
        let again = Persona::prepare(face, &primitives, tokens_max);
        prop_assert_eq!(&prompt, &again.compose(&conversation), "prepared again");
        prop_assert!(full.is_static());
        let whole = full.compose("");
        let mut lines = whole.lines();
        for line in prompt.lines() {
            prop_assert!(lines.any(|other| other == line), "{line:?} is out of order or not of the profile");
        }
        prop_assert_eq!(estimate_tokens(&whole), persona.profile_tokens());
    }

    #[test]
    fn no_body_makes_a_parser_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = FaceFields::parse(&body);
        let _ = FaceImport::parse(&body, &LIMITS);
        let _ = parse_primitives(&body, &LIMITS);
    }

    #[test]
    fn no_damage_to_a_good_file_makes_a_parser_panic(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mut file = demo::ALICE_JSON.as_bytes().to_vec();
        let at = at.index(file.len());
        if cut { file.truncate(at) } else { file[at] = byte }
        let limits = ImportLimits { primitives_max: 50, primitive_chars_max: 200 };
        match FaceImport::parse(&file, &limits) {
            Ok(import) => prop_assert!(import.primitives.iter().all(|one| !one.text.is_empty())),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }

    #[test]
    fn estimates_grow_with_the_text(left in any::<String>(), right in any::<String>()) {
        let whole = estimate_tokens(&format!("{left}{right}"));
        prop_assert!(whole <= estimate_tokens(&left) + estimate_tokens(&right));
        prop_assert!(whole >= estimate_tokens(&left).max(estimate_tokens(&right)));
    }
}
