use super::*;

fn read(text: &str) -> Result<Document, String> {
    parse(text.as_bytes(), &Budget::for_file(text.len() as u64))
}

/// A file of 300 MB is read in one pass: what is not kept of it costs no memory, and what is kept is charged.
#[test]
fn long_files_are_read_in_one_pass() {
    let left_out =
        b"<box label='a' xtl='1' ytl='1' xbr='2' ybr='2' occluded='0' z_order='0'/>".repeat(1000);
    let count = (300 << 20) / left_out.len();
    let parts = [b"<annotations><image name='a' width='3' height='2'>".to_vec()];
    let boxes = std::iter::repeat_n(left_out, count);
    let end = [b"</image></annotations>".to_vec()];
    let mut parts = parts.into_iter().chain(boxes).chain(end);
    let source = Parts {
        next: Vec::new(),
        rest: &mut parts,
    };
    let budget = Budget::new(1000, 0);
    let found = parse(std::io::BufReader::new(source), &budget).unwrap();
    assert_eq!(found.left_out["box"], count * 1000);

    let polygon = "<polygon label='b' points='1,2;3,4;5,6'/>".repeat(100);
    let text = format!(
        "<annotations><image name='a' width='3' height='2'>{polygon}</image></annotations>"
    );
    let error = parse(text.as_bytes(), &Budget::new(1000, 0)).unwrap_err();
    assert!(error.contains("1000 bytes of memory"), "{error}");
    assert_eq!(read(&text).unwrap().images[0].shapes.len(), 100);
}

/// A file that is generated in parts and never in memory as a whole.
struct Parts<'a> {
    next: Vec<u8>,
    rest: &'a mut dyn Iterator<Item = Vec<u8>>,
}

impl std::io::Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.next.is_empty() {
            self.next = self.rest.next().unwrap_or_default();
            self.next.reverse();
        }
        let count = buffer.len().min(self.next.len());
        let left = self.next.len() - count;
        buffer[..count].copy_from_slice(&self.next[left..]);
        buffer[..count].reverse();
        self.next.truncate(left);
        Ok(count)
    }
}

#[test]
fn labels_images_and_shapes_are_read() {
    let text = r#"<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>
        <meta><project><name>no label</name><labels><label><name>R&amp;D</name><attributes><attribute>
        <name>no label either</name></attribute></attributes></label><label><name>b</name></label></labels>
        </project></meta>
        <image id="0" name="a&amp;b.png" subset="Train" width="60" height="40">
        <polygon label="R&amp;D" points="1.5,2;3,4;5,6" group_id="7"><attribute name="x">1</attribute></polygon>
        <mask label="b" rle="1, 2, 3" left="4" top="5" width="3" height="2"/>
        <ellipse label="b" cx="5" cy="6" rx="2" ry="1" rotation="30.00"/>
        <box label="b" xtl="1" ytl="1" xbr="2" ybr="2"></box><tag label="b"></tag></image></annotations>"#;
    let found = read(text).unwrap();
    assert_eq!(found.labels, ["R&D", "b"]);
    let [image] = &found.images[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (image.name.as_str(), image.subset.as_str()),
        ("a&b.png", "Train")
    );
    assert_eq!((image.width, image.height), (60, 40));
    let [polygon, mask, ellipse] = &image.shapes[..] else {
        panic!("{image:?}")
    };
    assert_eq!((polygon.label.as_str(), polygon.group), ("R&D", 7));
    assert_eq!(
        polygon.outline,
        Outline::Polygon(vec![[1.5, 2.0], [3.0, 4.0], [5.0, 6.0]])
    );
    let runs = vec![1, 2, 3];
    assert_eq!(
        mask.outline,
        Outline::Mask {
            runs,
            left: 4,
            top: 5,
            width: 3,
            height: 2
        }
    );
    assert!(matches!(
        ellipse.outline,
        Outline::Ellipse { rotation: 30.0, .. }
    ));
    assert_eq!(found.left_out, HashMap::from([("box".into(), 1)]));
}

#[test]
fn other_and_broken_files_are_named() {
    for (text, wanted) in [
        (
            "<annotation><size/></annotation>",
            "in place of <annotations>",
        ),
        (
            "<annotations><track id='0'></track></annotations>",
            "CVAT for video",
        ),
        ("<annotations><image name='a' width='3'", "near byte"),
        (
            "<annotations><image name='a' width='3' height='2'>",
            "cut short",
        ),
        (
            "<annotations><image name='a' width='x' height='2'/></annotations>",
            "`width` is `x`",
        ),
        (
            "<annotations><image name='a' width='3' height='2'><polygon label='b' points='1;2'/></image></annotations>",
            "<polygon> of a: `points` has `1`",
        ),
        (
            "<annotations><image name='a' width='3' height='2'><mask label='b' rle='-1' left='0' top='0' width='1' \
          height='1'/></image></annotations>",
            "`rle`",
        ),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    let deep = "<annotations>".repeat(100);
    assert!(read(&deep).unwrap_err().contains("in each other"));
}
