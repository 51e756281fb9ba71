use super::*;

fn scanned(text: &str) -> Result<Vec<String>, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut found = Vec::new();
    let result = scan(file.path(), &mut |element| {
        let text = String::from_utf8_lossy(element.text);
        found.push(format!("{:?} {}: {text}", element.section, element.index));
        Ok(())
    });
    match result {
        Ok(_) => Ok(found),
        Err(ScanError::Json(reason)) => Err(reason),
        Err(ScanError::Io(error)) => Err(error.to_string()),
    }
}

#[test]
fn lists_are_split_into_their_elements() {
    let text = "{\"info\": {\"a\": [\"]}\"]}, \"images\" : [ {\"b\\\"\": [1, {}]} ,\n 7, null],\n\"annotations\":[]}";
    let wanted = [
        "Images 0: {\"b\\\"\": [1, {}]}",
        "Images 1: 7",
        "Images 2: null",
    ];
    assert_eq!(scanned(text).unwrap(), wanted);
    assert_eq!(scanned("[1, [2]]").unwrap(), ["Top 0: 1", "Top 1: [2]"]);
}

#[test]
fn elements_across_buffers_are_whole() {
    let long = format!("\"{}\\\"x\"", "a".repeat(CHUNK - 3));
    let many: Vec<String> = (0..5).map(|_| long.clone()).collect();
    let found = scanned(&format!("[{}]", many.join(","))).unwrap();
    assert_eq!(found.len(), 5);
    for (index, text) in found.iter().enumerate() {
        assert_eq!(text, &format!("Top {index}: {long}"));
    }
}

#[test]
fn errors_have_line_and_column() {
    let cases = [
        ("", "empty"),
        ("x", "does not begin"),
        ("{\"images\": [\n{\"id\": 1}, {\"id", "line 2"),
        ("{\"images\": [1],\n}", "trailing comma at line 2"),
        ("{\"images\": [1,]}", "trailing comma"),
        ("{\"images\": [1]} 2", "trailing characters"),
        (
            "{\"images\": [1], \"images\": []}",
            "duplicate field `images`",
        ),
        ("{\"images\": 7}", "not a list"),
        ("{\"images\": [1", "ends"),
        ("{images: [1]}", "a key in quotes"),
    ];
    for (text, wanted) in cases {
        let error = scanned(text).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
        assert!(error.contains("line "), "{text}: {error}");
    }
}
