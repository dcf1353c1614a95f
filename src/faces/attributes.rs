//! The closed table of facts that a face may state.

use serde_json::{Value, json};

/// The 90 keys of `basic_facts` in their 12 categories, in the order in which prompts and
/// `GET /v1/faces/attributes` show them.
///
/// Source: the attribute list of the public Faces API's agent documents, 2026-04-01.
pub const ATTRIBUTES: &[(&str, &[&str])] = &[
    (
        "Age & Birth",
        &[
            "age",
            "age_range",
            "birth_date",
            "birth_year",
            "birth_month",
            "birth_decade",
            "date_of_birth",
        ],
    ),
    (
        "Current Location",
        &[
            "address",
            "location",
            "residence",
            "region",
            "city",
            "state",
            "country",
            "postal_code",
            "zip_code",
        ],
    ),
    (
        "Birth Location",
        &["birth_city", "birth_country", "birth_location", "birth_place", "place_of_birth"],
    ),
    ("Past Locations", &["location_past", "residence_past", "previous_address"]),
    (
        "Identity & Demographics",
        &[
            "gender",
            "ethnicity",
            "race",
            "nationality",
            "citizenship",
            "citizenship_status",
            "citizenship_past",
            "religion",
            "sexual_orientation",
        ],
    ),
    (
        "Immigration",
        &[
            "immigration",
            "immigration_age",
            "immigration_destination",
            "immigration_status",
            "immigration_year",
        ],
    ),
    (
        "Family & Relationships",
        &[
            "marital_status",
            "marriage_date",
            "marriage_year",
            "marital_history",
            "spouse",
            "spouse_name",
            "spouse_occupation",
            "number_of_children",
            "children_names",
            "family_size",
            "parents",
            "parents_names",
            "parents_occupation",
            "mother_name",
            "father_name",
        ],
    ),
    (
        "Work & Career",
        &[
            "occupation",
            "occupation_past",
            "employer",
            "employer_past",
            "job_title",
            "work_location",
            "industry",
            "years_employed",
            "employment_status",
            "income",
            "salary",
        ],
    ),
    (
        "Education",
        &[
            "education_level",
            "degree",
            "school",
            "school_past",
            "university",
            "college",
            "graduation_year",
            "field_of_study",
            "major",
            "certifications",
        ],
    ),
    (
        "Legal & Official",
        &[
            "legal_name",
            "birth_name",
            "maiden_name",
            "social_security_number",
            "tax_id",
            "driver_license_state",
            "passport_country",
            "voter_registration",
        ],
    ),
    (
        "Housing & Property",
        &["home_ownership", "rent_or_own", "property_value", "housing_type", "roommates"],
    ),
    ("Health & Status", &["disability_status", "veteran_status", "health_insurance"]),
];

/// Whether a normalised key is in the table.
#[must_use]
pub fn is_attribute(key: &str) -> bool {
    keys().any(|known| known == key)
}

/// All keys, in the table's order.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    ATTRIBUTES.iter().flat_map(|(_, keys)| keys.iter().copied())
}

/// The body of `GET /v1/faces/attributes`:
/// `{"object":"list","data":[{"name":"Age & Birth","facts":["age",…]},…]}`.
#[must_use]
pub fn attributes_json() -> Value {
    let data: Vec<Value> =
        ATTRIBUTES.iter().map(|(name, facts)| json!({"name": name, "facts": facts})).collect();
    json!({"object": "list", "data": data})
}
