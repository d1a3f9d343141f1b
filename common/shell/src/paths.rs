//! Texts for callers without the folders of this machine.

use std::borrow::Cow;

use videosdgx_api::routes::ANY_SERVICE;

/// Characters that end a path in a message.
const ENDS: [char; 10] = [' ', '\t', '\n', '"', '\'', '`', ')', ']', ',', ';'];
/// Characters that may stand before a path in a message.
const BEGINS: [char; 8] = [' ', '\t', '\n', '"', '\'', '`', '(', '['];

/// `text` with the last two names of each absolute path only, `…/wan21/config.json`: which folders this machine has, and who its users
/// are, is for the operator. Paths of the API stay. The log has the whole text.
///
/// ```
/// use videosdgx_shell::hide_folders;
///
/// assert_eq!(hide_folders("/srv/models/wan21/config.json: no such file"), "…/wan21/config.json: no such file");
/// assert_eq!(hide_folders("POST /v1/completions reads it"), "POST /v1/completions reads it");
/// ```
#[must_use]
pub fn hide_folders(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = text;
    let mut before = ' ';
    while let Some(start) = rest.find('/') {
        before = rest[..start].chars().next_back().unwrap_or(before);
        let path = &rest[start..];
        let end = path.find(ENDS).unwrap_or(path.len());
        let (path, after) = path.split_at(end);
        // A colon or full stop behind a path belongs to the sentence.
        let name = path.trim_end_matches([':', '.']);
        shown.push_str(&rest[..start]);
        match short_form(name).filter(|_| BEGINS.contains(&before)) {
            Some(short) => {
                shown.push_str("…/");
                shown.push_str(short);
                shown.push_str(&path[name.len()..]);
            }
            None => shown.push_str(path),
        }
        before = path.chars().next_back().unwrap_or(before);
        rest = after;
    }
    if shown.is_empty() {
        return Cow::Borrowed(text);
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// The last names of an absolute path of the file system; `None` for a path of the API and for a single name.
fn short_form(path: &str) -> Option<&str> {
    let names = path.trim_end_matches('/').strip_prefix('/')?;
    let first = names.split('/').next()?;
    let is_api = ANY_SERVICE.iter().any(|route| route.path.split('/').nth(1) == Some(first));
    let (parent, _) = names.rsplit_once('/').filter(|_| !is_api && !first.is_empty())?;
    let kept = parent.rfind('/').unwrap_or(parent.len());
    Some(&names[kept + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_hidden_and_other_slashes_stay() {
        for (text, shown) in [
            (
                "there is no checkpoint: /srv/models/wan21 is missing; run it",
                "there is no checkpoint: …/models/wan21 is missing; run it",
            ),
            ("cannot open \"/home/ada/models/a/b.json\": denied", "cannot open \"…/a/b.json\": denied"),
            ("/tmp/x.json", "…/x.json"),
            ("/root/.cache/huggingface/hub/", "…/huggingface/hub"),
            ("(/a/b/c/d) and /e/f/g.", "(…/c/d) and …/f/g."),
            ("/models", "/models"),
            ("see GET /jobs/{id}/events or /docs/", "see GET /jobs/{id}/events or /docs/"),
            (
                "https://hub.example/a/b/c and 1/2/3 and a/b/c",
                "https://hub.example/a/b/c and 1/2/3 and a/b/c",
            ),
            ("models/wan21/config.json", "models/wan21/config.json"),
            ("//a/b/c", "//a/b/c"),
            ("/ or //", "/ or //"),
            ("größer als /mnt/größe/ß/ä", "größer als …/ß/ä"),
            ("", ""),
        ] {
            assert_eq!(hide_folders(text), shown);
        }
    }
}
