//! The confusion matrix and the pictures of the report.

use super::sections::escaped;
use crate::eval::Confusion;
use ::image::codecs::jpeg::JpegEncoder;
use ::image::{RgbImage, imageops};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write;

/// Classes in the matrix; of more, those that are confused most.
const SHOWN: usize = 20;

/// The confusion matrix, shaded by the share of its row.
pub fn confusion(confusion: &Confusion) -> String {
    let background = confusion.names.len() - 1;
    let off_diagonal = |class: usize| {
        let all = 0..=background;
        let pairs = all.filter(|&other| other != class);
        pairs
            .map(|other| confusion.counts[class][other] + confusion.counts[other][class])
            .sum::<u64>()
    };
    let mut order: Vec<usize> = (0..background).collect();
    if order.len() > SHOWN {
        order.sort_by_key(|&class| std::cmp::Reverse(off_diagonal(class)));
        order.truncate(SHOWN);
    }
    order.push(background);
    let mut html = String::from("<table class='matrix'><tr><th></th>");
    for &column in &order {
        let name = if column == background {
            "missed"
        } else {
            &confusion.names[column]
        };
        let _ = write!(html, "<th>{}</th>", escaped(name));
    }
    html.push_str("</tr>");
    for &row in &order {
        let name = if row == background {
            "nothing"
        } else {
            &confusion.names[row]
        };
        let _ = write!(html, "<tr><th>{}</th>", escaped(name));
        let all = confusion.counts[row].iter().sum::<u64>().max(1) as f64;
        for &column in &order {
            let count = confusion.counts[row][column];
            let share = count as f64 / all;
            let colour = if row == column {
                "59,118,214"
            } else {
                "214,90,59"
            };
            let ink = if share > 0.6 { "#fff" } else { "inherit" };
            let text = if count == 0 {
                String::new()
            } else {
                count.to_string()
            };
            let _ = write!(
                html,
                "<td style='background:rgba({colour},{share:.2});color:{ink}'>{text}</td>"
            );
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
    if background > SHOWN {
        let _ = write!(
            html,
            "<p class='note'>The {SHOWN} of {background} classes with the most mistakes.</p>"
        );
    }
    html
}

/// Wider pictures are made smaller.
const WIDEST: u32 = 1000;
const JPEG_QUALITY: u8 = 82;

/// Pictures in the page itself.
pub fn pictures(pictures: &[(String, RgbImage)]) -> String {
    if pictures.is_empty() {
        return "<p>None.</p>".into();
    }
    let figure = |(caption, image): &(String, RgbImage)| {
        let height = (image.height() as u64 * WIDEST as u64 / image.width().max(1) as u64) as u32;
        let small = (image.width() > WIDEST).then(|| {
            imageops::resize(image, WIDEST, height.max(1), imageops::FilterType::Triangle)
        });
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
        if encoder
            .encode_image(small.as_ref().unwrap_or(image))
            .is_err()
        {
            return String::new();
        }
        let (data, caption) = (STANDARD.encode(&bytes), escaped(caption));
        format!(
            "<figure><figcaption>{caption}</figcaption>\
             <img alt='{caption}' src='data:image/jpeg;base64,{data}'></figure>"
        )
    };
    let figures: String = pictures.iter().map(figure).collect();
    format!("<div class='grid'>{figures}</div>")
}
