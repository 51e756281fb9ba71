//! Problems of a dataset, and how they are displayed.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::path::PathBuf;

/// Severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Training is possible.
    Warning,
    /// The annotation or image cannot be used.
    Error,
}

/// A problem of a dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Its severity.
    pub severity: Severity,
    /// The annotation file or the image.
    pub file: PathBuf,
    /// The id of the image.
    pub image_id: Option<u64>,
    /// The id of the annotation.
    pub annotation_id: Option<u64>,
    /// A label shared by problems of the same kind.
    pub kind: &'static str,
    /// The fault.
    pub reason: String,
    /// The fix.
    pub fix: String,
}

impl Severity {
    fn shown(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display().to_string();
        write!(f, "{}: {}", self.severity.shown(), printable(&file))?;
        if let Some(id) = self.image_id {
            write!(f, ": image {id}")?;
        }
        if let Some(id) = self.annotation_id {
            write!(f, ": annotation {id}")?;
        }
        write!(f, ": {}; {}", printable(&self.reason), printable(&self.fix))
    }
}

/// One line per kind of problem and file, in order of appearance: the problem itself if it is the only
/// one; otherwise the number, the first ids, and the first problem.
pub fn summarized(problems: &[Problem]) -> Vec<String> {
    let (mut order, mut groups) = (Vec::new(), HashMap::<_, Vec<&Problem>>::new());
    for problem in problems {
        // Problems of images have the image as their file.
        let is_image = problem.annotation_id.is_none() && problem.image_id.is_some();
        let file = (!is_image).then_some(&problem.file);
        let key = (
            problem.severity,
            problem.kind,
            file,
            problem.image_id.is_some(),
        );
        let group = groups.entry(key).or_default();
        if group.is_empty() {
            order.push(key);
        }
        group.push(problem);
    }
    order.iter().map(|key| summary(&groups[key])).collect()
}

fn summary(group: &[&Problem]) -> String {
    const NAMED: usize = 5;
    let first = group[0];
    if group.len() == 1 {
        return first.to_string();
    }
    let of_annotations = group.iter().any(|problem| problem.annotation_id.is_some());
    let id = |problem: &&Problem| match of_annotations {
        true => problem.annotation_id,
        false => problem.image_id,
    };
    let mut ids: Vec<String> = group
        .iter()
        .filter_map(id)
        .take(NAMED)
        .map(|id| id.to_string())
        .collect();
    if group.len() > NAMED && !ids.is_empty() {
        ids.push("...".into());
    }
    let noun = match (of_annotations, first.image_id.is_some()) {
        (true, _) => "annotations",
        (false, true) => "images",
        (false, false) => "entries",
    };
    let ids = match ids.is_empty() {
        true => String::new(),
        false => format!(" (ids {})", ids.join(", ")),
    };
    let file = first.file.display().to_string();
    format!(
        "{}: {}: {} {noun}{ids}: {}; {}",
        first.severity.shown(),
        printable(&file),
        group.len(),
        printable(&first.reason),
        printable(&first.fix)
    )
}

/// A text of a file for the terminal: control characters escaped, truncated to 400 characters.
pub fn printable(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push_str("...");
            break;
        }
        // Characters that change the direction of the text are escaped too.
        let is_format = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match c.is_control() || is_format {
            true => drop(write!(out, "{}", c.escape_default())),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &'static str, annotation_id: u64) -> Problem {
        Problem {
            severity: Severity::Error,
            file: "a.json".into(),
            image_id: Some(1),
            annotation_id: Some(annotation_id),
            kind,
            reason: format!("{kind} {annotation_id}"),
            fix: "fix it".into(),
        }
    }

    #[test]
    fn problems_of_a_kind_are_one_line() {
        let mut problems: Vec<Problem> = (1..=7).map(|id| problem("bad", id)).collect();
        problems.insert(3, problem("worse", 99));
        let wanted = [
            "error: a.json: 7 annotations (ids 1, 2, 3, 4, 5, ...): bad 1; fix it",
            "error: a.json: image 1: annotation 99: worse 99; fix it",
        ];
        assert_eq!(summarized(&problems), wanted);
    }

    #[test]
    fn texts_of_files_cannot_steer_the_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\n\u{202e}\u{e9}"),
            "a\\u{1b}[2Jb\\n\\u{202e}\u{e9}"
        );
        assert_eq!(printable(&"x".repeat(1000)).len(), 403);
    }
}
