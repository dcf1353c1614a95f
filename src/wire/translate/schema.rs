//! JSON schemas as Anthropic's structured output takes them.
//!
//! References are inlined, objects are closed (`additionalProperties: false`), `oneOf` becomes
//! `anyOf`, and keywords that its grammar can't enforce are left out. Source: Anthropic's
//! documentation, "Structured outputs", JSON schema limitations.

use serde_json::{Map, Value, json};

use crate::wire::request_error::RequestError;

/// Keywords that are refused there.
const LEFT_OUT: [&str; 18] = [
    "$schema",
    "$id",
    "$defs",
    "definitions",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "contains",
];
/// Schemas in the inlined result: references to references can multiply without end.
const SCHEMAS_MAX: usize = 10_000;
/// Levels of the inlined result.
const DEPTH_MAX: usize = 64;

struct Inliner<'a> {
    root: &'a Value,
    path: &'a str,
    schemas: usize,
    /// References being inlined now: one that comes again is recursive.
    open: Vec<&'a str>,
}

/// The schema for `output_config.format` or a tool.
pub(super) fn for_anthropic(schema: &Value, path: &str) -> Result<Value, RequestError> {
    if !schema.is_object() {
        let text = format!("`{path}` must be an object");
        return Err(RequestError::value(path, text));
    }
    Inliner { root: schema, path, schemas: 0, open: Vec::new() }.schema(schema, 0)
}

impl<'a> Inliner<'a> {
    fn refuse(&self, what: &str) -> RequestError {
        let path = self.path;
        RequestError::unsupported(path, format!("`{path}` {what}: simplify the schema"))
    }

    fn schema(&mut self, schema: &'a Value, depth: usize) -> Result<Value, RequestError> {
        self.schemas += 1;
        if self.schemas > SCHEMAS_MAX || depth > DEPTH_MAX {
            return Err(self.refuse("is too large or too deep"));
        }
        let Some(object) = schema.as_object() else { return Ok(schema.clone()) };
        if let Some(Value::String(reference)) = object.get("$ref") {
            return self.reference(reference, object, depth);
        }
        let mut out = Map::new();
        for (key, value) in object {
            if LEFT_OUT.contains(&key.as_str()) || key == "additionalProperties" {
                continue;
            }
            match key.as_str() {
                "properties" => {
                    let mut properties = Map::new();
                    for (name, property) in value.as_object().into_iter().flatten() {
                        properties.insert(name.clone(), self.schema(property, depth + 1)?);
                    }
                    out.insert(key.clone(), Value::Object(properties));
                }
                "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
                    let list = value.as_array().into_iter().flatten();
                    let list =
                        list.map(|it| self.schema(it, depth + 1)).collect::<Result<_, _>>()?;
                    let key = if key == "oneOf" { "anyOf" } else { key };
                    out.insert(key.to_owned(), Value::Array(list));
                }
                "items" | "not" => {
                    out.insert(key.clone(), self.schema(value, depth + 1)?);
                }
                // 0 and 1 are all that the grammar knows.
                "minItems" if value.as_u64().is_some_and(|count| count > 1) => {
                    out.insert(key.clone(), json!(1));
                }
                _ => {
                    out.insert(key.clone(), value.clone());
                }
            }
        }
        let is_object = match out.get("type") {
            Some(Value::String(kind)) => kind == "object",
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
            _ => out.contains_key("properties"),
        };
        if is_object {
            out.insert("additionalProperties".to_owned(), json!(false));
        }
        Ok(Value::Object(out))
    }

    /// The referenced schema, with the reference's own description.
    fn reference(
        &mut self,
        reference: &'a str,
        beside: &'a Map<String, Value>,
        depth: usize,
    ) -> Result<Value, RequestError> {
        if self.open.contains(&reference) {
            return Err(self.refuse("is recursive, which this model can't follow"));
        }
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(target) = target else {
            return Err(self.refuse("has a `$ref` that points to nothing in it"));
        };
        self.open.push(reference);
        let mut inlined = self.schema(target, depth + 1)?;
        self.open.pop();
        if let (Some(object), Some(description)) =
            (inlined.as_object_mut(), beside.get("description"))
        {
            object.insert("description".to_owned(), description.clone());
        }
        Ok(inlined)
    }
}
