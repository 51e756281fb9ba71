//! Escaping of text in HTML and SVG.

/// Text with the characters escaped that have a meaning in HTML, SVG or an attribute.
pub fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('\'', "&#39;")
}
