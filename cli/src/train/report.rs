//! What was measured as tables, in a model card if there is one, and as a plot.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::trials::{Choice, Count, Report};
use crate::world::Sort;

const SHOTS: [usize; 7] = [0, 1, 2, 4, 8, 16, 32];

/// Naming by examples, a row for each sort of kinds.
fn named(report: &Report) -> String {
    let mut rows: BTreeMap<_, Vec<(usize, Count)>> = BTreeMap::new();
    for cell in &report.named {
        let choice = match cell.choice {
            Choice::Random => "by chance",
            Choice::Rices => "by RICES",
        };
        rows.entry((choice, cell.ways, cell.sort))
            .or_default()
            .push((cell.shots, cell.chosen));
    }
    let mut text = String::from(
        "| kinds differ by | kinds | shots chosen | 0 | 1 | 2 | 4 | 8 | 16 | 32 |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for ((choice, ways, sort), cells) in &rows {
        let at = |shots| {
            let cell = cells.iter().find(|(s, _)| *s == shots);
            cell.map_or("–".to_owned(), |(_, count)| count.words())
        };
        let cells: Vec<String> = SHOTS.map(at).to_vec();
        let (sort, cells) = (sort.words(), cells.join(" | "));
        let _ = writeln!(text, "| {sort} | {ways} | {choice} | {cells} |");
    }
    text
}

/// What is written without an example: what it is, how often it is right, and
/// CIDEr-D where that is measured.
fn written(report: &Report) -> Vec<[String; 3]> {
    let captions = report.captions.iter().map(|captions| {
        [
            format!("caption, {}, every word", captions.of),
            captions.exact.words(),
            format!("{:.0}", captions.cider),
        ]
    });
    let answers = report.answers.iter().map(|answers| {
        [
            format!("question, {}", answers.subject.words()),
            answers.right.words(),
            "–".to_owned(),
        ]
    });
    captions.chain(answers).collect()
}

/// All tables of one report.
pub fn markdown(report: &Report) -> String {
    let mut text = named(report);
    text.push_str("\n| without an example | right | CIDEr-D |\n|---|---|---|\n");
    for [what, right, cider] in written(report) {
        let _ = writeln!(text, "| {what} | {right} | {cider} |");
    }
    text
}

/// A card with the tables that stand in it made anew: each is the one after its
/// mark, a line `<!-- measured: … -->`.
///
/// # Errors
/// Where a mark is missing.
pub fn in_card(card: &str, held_out: &Report, seen: &Report) -> Result<String> {
    let mut both = String::from(
        "| without an example | held out | CIDEr-D | seen | CIDEr-D |\n|---|---|---|---|---|\n",
    );
    for ([what, right, cider], [_, other, beside]) in written(held_out).iter().zip(written(seen)) {
        let _ = writeln!(both, "| {what} | {right} | {cider} | {other} | {beside} |");
    }
    let tables = [
        ("names, held out", named(held_out)),
        ("names, seen", named(seen)),
        ("without an example", both),
    ];
    let mut card = card.to_owned();
    for (name, table) in tables {
        let mark = format!("<!-- measured: {name} -->\n");
        let (before, after) = card
            .split_once(&mark)
            .with_context(|| format!("the card has no line {mark}"))?;
        let old = after.lines().take_while(|line| line.starts_with('|'));
        let old: usize = old.map(|line| line.len() + 1).sum();
        let after = after.get(old..).unwrap_or_default();
        card = format!("{before}{mark}{table}{after}");
    }
    Ok(card)
}

/// The shares of right names against the number of examples, as SVG: four
/// kinds, shots by chance.
pub fn curve(report: &Report) -> String {
    let (width, height, margin) = (640.0, 340.0, 44.0);
    let x = |shots: usize| {
        let at = SHOTS.iter().position(|&s| s == shots).unwrap_or(0);
        margin + (width - 2.0 * margin) * at as f64 / 6.0
    };
    let y = |share: f64| height - margin - (height - 2.0 * margin) * share;
    let mut body = String::new();
    let colours = ["#247", "#a33", "#383"];
    for (i, (sort, colour)) in Sort::ALL.into_iter().zip(colours).enumerate() {
        let cells = report
            .named
            .iter()
            .filter(|cell| (cell.sort, cell.ways, cell.choice) == (sort, 4, Choice::Random));
        let mut points = Vec::new();
        for cell in cells {
            let (low, high) = cell.chosen.interval();
            let (at, share) = (x(cell.shots), cell.chosen.share());
            points.push(format!("{at:.1},{:.1}", y(share)));
            let _ = writeln!(
                body,
                "<path d=\"M{at:.1} {:.1}V{:.1}\" stroke=\"{colour}\"/>\
                 <circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                y(low),
                y(high),
                y(share)
            );
        }
        let _ = writeln!(
            body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"{colour}\">kinds by {}</text>",
            points.join(" "),
            width - 190.0,
            height - margin - 52.0 + 16.0 * i as f64,
            sort.words()
        );
    }
    for shots in SHOTS {
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{shots}</text>",
            x(shots),
            height - margin + 18.0
        );
    }
    let chance = y(0.25);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <path d=\"M{margin} {margin}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>\n\
         <path d=\"M{margin} {chance}H{right}\" stroke=\"#888\" stroke-dasharray=\"4 4\"/>\n\
         <text x=\"6\" y=\"{margin}\">100 %</text><text x=\"6\" y=\"{chance}\">25 %</text>\n\
         <text x=\"{middle}\" y=\"{low}\" text-anchor=\"middle\">examples of four kinds</text>\n\
         <text x=\"{margin}\" y=\"24\">right names</text>\n{body}</svg>\n",
        bottom = height - margin,
        right = width - margin,
        middle = width / 2.0,
        low = height - 8.0,
    )
}

#[cfg(test)]
mod tests {
    use super::{in_card, markdown};
    use crate::train::trials::{Captions, Choice, Count, Named, Report};
    use crate::world::Sort;

    fn report(right: usize) -> Report {
        let count = Count { right, trials: 20 };
        let named = |shots| Named {
            choice: Choice::Random,
            sort: Sort::Thing,
            ways: 4,
            shots,
            chosen: count,
            said: count,
        };
        Report {
            named: vec![named(0), named(8)],
            captions: vec![Captions {
                of: "one thing",
                exact: count,
                cider: 61.6,
            }],
            answers: Vec::new(),
        }
    }

    #[test]
    fn tables_of_a_card_are_made_anew_and_nothing_else() {
        let card = "# A\n\n<!-- measured: names, held out -->\n| old |\n\ntext | with | bars\n\n\
                    <!-- measured: names, seen -->\n\n<!-- measured: without an example -->\n| a |\n| b |";
        let once = in_card(card, &report(10), &report(20)).expect("marks");
        assert!(once.starts_with("# A\n\n<!-- measured: names, held out -->\n| kinds differ"));
        assert!(once.contains("| thing | 4 | by chance | 50.0 (30–70) | – | – | – | 50.0"));
        assert!(once.contains("\n\ntext | with | bars\n\n<!--"));
        assert!(once.contains("| caption, one thing, every word | 50.0 (30–70) | 62 | 100.0"));
        assert!(!once.contains("| old |") && !once.contains("| b |"));
        let twice = in_card(&once, &report(10), &report(20)).expect("marks");
        assert_eq!(once, twice);
        assert!(in_card("# B", &report(1), &report(1)).is_err());
    }

    #[test]
    fn a_report_has_both_tables() {
        let text = markdown(&report(20));
        assert!(text.contains("| kinds differ by |") && text.contains("| without an example |"));
    }
}
