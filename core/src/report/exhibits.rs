//! The confusion matrix and the images of the report.

use super::markup::escaped;
use crate::eval::Confusion;
use ::image::codecs::jpeg::JpegEncoder;
use ::image::{RgbImage, imageops};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write;

/// Maximum number of classes in the matrix; if there are more, those with the most confusions are shown.
const MAX_CLASSES: usize = 20;

/// The confusion matrix, shaded by the fraction of its row.
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
    if order.len() > MAX_CLASSES {
        order.sort_by_key(|&class| std::cmp::Reverse(off_diagonal(class)));
        order.truncate(MAX_CLASSES);
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
            "background"
        } else {
            &confusion.names[row]
        };
        let _ = write!(html, "<tr><th>{}</th>", escaped(name));
        let all = confusion.counts[row].iter().sum::<u64>().max(1) as f64;
        for &column in &order {
            let count = confusion.counts[row][column];
            let fraction = count as f64 / all;
            let color = if row == column {
                "59,118,214"
            } else {
                "214,90,59"
            };
            let ink = if fraction > 0.6 { "#fff" } else { "inherit" };
            let text = if count == 0 {
                String::new()
            } else {
                count.to_string()
            };
            let _ = write!(
                html,
                "<td style='background:rgba({color},{fraction:.2});color:{ink}'>{text}</td>"
            );
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
    if background > MAX_CLASSES {
        let _ = write!(
            html,
            "<p class='note'>The {MAX_CLASSES} of {background} classes with the most confusions.</p>"
        );
    }
    html
}

/// Maximum width of an image in pixels; wider images are resized.
const MAX_WIDTH: u32 = 1000;
const JPEG_QUALITY: u8 = 82;

/// Figures with embedded images and their captions.
pub fn images(images: &[(String, RgbImage)]) -> String {
    if images.is_empty() {
        return "<p>None.</p>".into();
    }
    let figure = |(caption, image): &(String, RgbImage)| {
        let height =
            (image.height() as u64 * MAX_WIDTH as u64 / image.width().max(1) as u64) as u32;
        let small = (image.width() > MAX_WIDTH).then(|| {
            imageops::resize(
                image,
                MAX_WIDTH,
                height.max(1),
                imageops::FilterType::Triangle,
            )
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
    let figures: String = images.iter().map(figure).collect();
    format!("<div class='grid'>{figures}</div>")
}
