//! CSV tables of steps and evaluations.

use super::record::Record;
use std::fmt::Write;

/// Two CSV texts with a header line each: the steps and the evaluations. Without records, a text is empty.
pub fn csv(records: &[Record]) -> [String; 2] {
    let table_of = |evaluations: bool| {
        let is_wanted = move |r: &&Record| match r {
            Record::Step { .. } => !evaluations,
            Record::Eval { .. } => evaluations,
            Record::LeftOut { .. } => false,
        };
        table(records.iter().filter(is_wanted))
    };
    [table_of(false), table_of(true)]
}

fn table<'a>(records: impl Iterator<Item = &'a Record>) -> String {
    let rows: Vec<_> = records.map(|r| (r.at(), r.scalars())).collect();
    // A run that is resumed with other settings may have more columns later.
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|(_, scalars)| scalars) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut text = String::new();
    if rows.is_empty() {
        return text;
    }
    let column = |name: &str| name.split_once('/').map_or(name, |(_, n)| n).to_string();
    let header: Vec<String> = names.iter().map(|name| column(name)).collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "step,{}", header.join(","));
    for (step, scalars) in &rows {
        let cells = names.iter().map(|name| {
            let value = scalars.iter().find(|(n, _)| n == name);
            value.map_or(String::new(), |(_, value)| value.to_string())
        });
        let cells: Vec<String> = cells.collect();
        let _ = writeln!(text, "{step},{}", cells.join(","));
    }
    text
}
