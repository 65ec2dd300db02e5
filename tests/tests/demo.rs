//! The Flamingo of the page does what its card says: the committed weights,
//! measured again in fewer trials.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_tests::command::well;
use plume_tests::root;
use serde_json::Value;

/// Rows of a table of the card, by its mark.
fn table(card: &str, mark: &str) -> Vec<Vec<String>> {
    let after = card.split_once(mark).unwrap().1;
    let rows = after
        .lines()
        .skip(3)
        .take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    rows.map(cells).collect()
}

/// `93.5 (91–95)` → 0.935.
fn share(cell: &str) -> f64 {
    cell.split(' ').next().unwrap().parse::<f64>().unwrap() / 100.0
}

fn measured(count: &Value) -> f64 {
    count["right"].as_f64().unwrap() / count["trials"].as_f64().unwrap()
}

#[test]
fn the_demo_does_what_its_card_says() {
    let folder = root().join("www/demo/flamingo");
    let card = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let path = |name: &str| {
        root()
            .join("www/demo")
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    };
    let (model, clip) = (path("flamingo"), path("clip"));
    let told = well(&[
        "eval", "world", "--model", &model, "--clip", &clip, "--trials", "20", "--json",
    ]);
    let report: Value = serde_json::from_str(&told).unwrap();

    let mut pairs = Vec::new();
    let rows = table(&card, "<!-- measured: names, held out -->");
    let shots = [0, 1, 2, 4, 8, 16, 32];
    for cell in report["named"].as_array().unwrap() {
        let sort = cell["sort"].as_str().unwrap().replace('_', " ");
        let by = if cell["choice"] == "rices" {
            "by RICES"
        } else {
            "by chance"
        };
        let ways = cell["ways"].to_string();
        let row = rows
            .iter()
            .find(|row| row[..3] == [sort.as_str(), &ways, by])
            .unwrap();
        let at = shots.iter().position(|&n| cell["shots"] == n).unwrap();
        pairs.push((
            row[..3].join(", "),
            share(&row[3 + at]),
            measured(&cell["chosen"]),
        ));
    }
    let rows = table(&card, "<!-- measured: without an example -->");
    let right = report["captions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["exact"]);
    let right = right.chain(
        report["answers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["right"]),
    );
    for (count, row) in right.zip(&rows) {
        pairs.push((row[0].clone(), share(&row[1]), measured(count)));
    }
    assert_eq!(pairs.len(), 12 * 7 - 3 + 10, "{pairs:?}");

    // Of 20 trials nothing is far off; over all of them it is the same.
    let mean = |of: &dyn Fn(&(String, f64, f64)) -> f64| {
        pairs.iter().map(of).sum::<f64>() / pairs.len() as f64
    };
    let (said, found) = (mean(&|pair| pair.1), mean(&|pair| pair.2));
    println!(
        "mean of {} figures: {said:.3} in the card, {found:.3} now",
        pairs.len()
    );
    assert!((said - found).abs() < 0.03, "{said} {found}");
    for (what, said, found) in &pairs {
        assert!(
            (said - found).abs() < 0.35,
            "{what}: {said} in the card, {found} now"
        );
    }
}
