//! The elements of the lists of a COCO-like file.

/// The lists of a COCO file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Images,
    Annotations,
    Categories,
    /// The elements of a file that is itself a list, such as results.
    Top,
}

impl Section {
    pub(super) fn named(key: &str) -> Option<Self> {
        match key {
            "images" => Some(Self::Images),
            "annotations" => Some(Self::Annotations),
            "categories" => Some(Self::Categories),
            _ => None,
        }
    }
}

/// The text of an element of a list.
pub(crate) struct Element<'a> {
    pub section: Section,
    /// Position in its list, from 0.
    pub index: usize,
    pub text: &'a [u8],
    /// Position at which the element begins.
    pub line: u64,
    pub column: u64,
}
