//! Checks the LoRAs of a request: their number, names and scales. Whether their files fit is the engine's to say.

use std::collections::HashSet;

use videosdgx_api::{LoraChoice, MAX_LORA_NAME, MAX_LORA_SCALE, Problem};

/// # Errors
/// The first problem, with field and limit; `most` is the model's limit.
pub(crate) fn check(loras: &[LoraChoice], most: u32) -> Result<(), Problem> {
    if loras.len() > most as usize {
        let detail = match most {
            0 => "this checkpoint does not use loras; leave them out".to_owned(),
            _ => format!("a request has at most {most} loras, not {}", loras.len()),
        };
        return Err(Problem::field("loras", detail).with_limit(most));
    }
    let mut names = HashSet::new();
    for (index, LoraChoice { name, scale }) in loras.iter().enumerate() {
        let field = |part: &str| format!("loras[{index}].{part}");
        if let Some(reason) = fault(name) {
            return Err(Problem::field(field("name"), reason).with_limit(MAX_LORA_NAME));
        }
        if !names.insert(name) {
            let detail = format!("the LoRA {name} is named twice; add up its scales");
            return Err(Problem::field(field("name"), detail));
        }
        // Also refuses NaN.
        if !(-MAX_LORA_SCALE..=MAX_LORA_SCALE).contains(scale) {
            let detail = format!("the scale of a LoRA is -{MAX_LORA_SCALE} to {MAX_LORA_SCALE}, not {scale}");
            return Err(Problem::field(field("scale"), detail).with_limit(MAX_LORA_SCALE));
        }
    }
    Ok(())
}

/// Why a name cannot be that of a file in the folder of LoRAs.
fn fault(name: &str) -> Option<String> {
    let characters = name.chars().count();
    if !(1..=MAX_LORA_NAME).contains(&characters) {
        return Some(format!("the name of a LoRA has 1 to {MAX_LORA_NAME} characters, not {characters}"));
    }
    let leads_elsewhere = name.starts_with('.') || name.contains(['/', '\\']);
    (leads_elsewhere || name.chars().any(char::is_control)).then(|| {
        "the name of a LoRA is one from GET /loras: without slashes and control characters, and it does not begin \
         with a dot"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(loras: &[(&str, f64)]) -> Result<(), (Option<String>, String)> {
        let loras: Vec<_> =
            loras.iter().map(|&(name, scale)| LoraChoice { name: name.to_owned(), scale }).collect();
        check(&loras, 2).map_err(|problem| (problem.field, problem.detail))
    }

    #[test]
    fn number_names_and_scales_are_limited() {
        assert_eq!(checked(&[("a b (v2.1)", 1.0), ("ä", -10.0)]), Ok(()));
        let long = "x".repeat(201);
        for (loras, field, words) in [
            (&[("a", 1.0), ("b", 1.0), ("c", 1.0)][..], "loras", "at most 2"),
            (&[("a", 1.0), ("a", 0.5)], "loras[1].name", "twice"),
            (&[("", 1.0)], "loras[0].name", "1 to 200"),
            (&[(long.as_str(), 1.0)], "loras[0].name", "not 201"),
            (&[("../secret", 1.0)], "loras[0].name", "slashes"),
            (&[("..", 1.0)], "loras[0].name", "dot"),
            (&[("a\\b", 1.0)], "loras[0].name", "slashes"),
            (&[("a\0", 1.0)], "loras[0].name", "control"),
            (&[("a", 10.5)], "loras[0].scale", "-10 to 10"),
            (&[("a", f64::NAN)], "loras[0].scale", "NaN"),
            (&[("a", f64::NEG_INFINITY)], "loras[0].scale", "-inf"),
        ] {
            let (named, detail) = checked(loras).unwrap_err();
            assert_eq!(named.as_deref(), Some(field), "{detail}");
            assert!(detail.contains(words), "{detail}");
        }
        let one = [LoraChoice { name: "a".to_owned(), scale: 1.0 }];
        assert!(check(&one, 0).unwrap_err().detail.contains("does not use loras"));
    }
}
