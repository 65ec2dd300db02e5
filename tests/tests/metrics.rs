//! The metrics of the benchmarks, against their reference implementations
//! (`tests/golden/make_metrics.py`).

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_core::tasks::metrics::{
    caption_words, cider_d, macro_mean, normalize_answer, roc_auc, said_answer, said_caption,
    vqa_accuracy, winoground,
};
use plume_tests::root;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    normalized: Vec<(String, String)>,
    vqa: Vec<Answered>,
    vqa_said: Vec<(String, String)>,
    cider: Cider,
    caption_words: Vec<(String, String)>,
    roc_auc: Vec<Curve>,
    winoground: Scores,
    aro: Aro,
}

#[derive(Deserialize)]
struct Answered {
    answer: String,
    people: Vec<String>,
    /// In percent.
    accuracy: f64,
}

#[derive(Deserialize)]
struct Cider {
    mean: f64,
    cases: Vec<Captioned>,
}

#[derive(Deserialize)]
struct Captioned {
    caption: String,
    references: Vec<String>,
    score: f64,
}

#[derive(Deserialize)]
struct Curve {
    scores: Vec<f64>,
    positive: Vec<bool>,
    area: f64,
}

#[derive(Deserialize)]
struct Scores {
    scores: Vec<[[f64; 2]; 2]>,
    text: f64,
    image: f64,
    group: f64,
}

#[derive(Deserialize)]
struct Aro {
    kinds: Vec<String>,
    right: Vec<bool>,
    means: std::collections::BTreeMap<usize, f64>,
}

fn golden() -> Golden {
    let json = std::fs::read_to_string(root().join("tests/golden/metrics.json")).unwrap();
    serde_json::from_str(&json).unwrap()
}

fn close(what: &str, ours: f64, theirs: f64) {
    assert!((ours - theirs).abs() < 1e-9, "{what}: {ours}, not {theirs}");
}

#[test]
fn answers_are_compared_as_the_official_evaluation_does() {
    let golden = golden();
    for (answer, expected) in golden.normalized {
        assert_eq!(normalize_answer(&answer), expected, "{answer:?}");
    }
    for (text, expected) in golden.vqa_said {
        assert_eq!(said_answer(&text), expected, "{text:?}");
    }
    for case in golden.vqa {
        let found = 100.0 * vqa_accuracy(&case.answer, &case.people);
        close(&case.answer, found, case.accuracy);
    }
}

#[test]
fn captions_score_as_by_coco_caption() {
    let golden = golden();
    for (caption, expected) in golden.caption_words {
        assert_eq!(caption_words(&caption).join(" "), expected, "{caption:?}");
    }
    assert_eq!(said_caption("a \"red\" cat\nOutput:a dog"), "a red cat\n");
    let cases = golden.cider.cases;
    let texts = cases
        .iter()
        .map(|case| (case.caption.clone(), case.references.clone()));
    let scores = cider_d(&texts.collect::<Vec<_>>());
    assert_eq!(scores.len(), cases.len());
    for (score, case) in scores.iter().zip(&cases) {
        close(&case.caption, *score, case.score);
    }
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    close("mean", mean, golden.cider.mean);
}

#[test]
fn areas_under_curves_are_scikit_learns() {
    for case in golden().roc_auc {
        close(
            "area",
            roc_auc(&case.scores, &case.positive).unwrap(),
            case.area,
        );
    }
}

#[test]
fn winoground_and_aro_are_as_their_papers_define_them() {
    let Golden {
        winoground: theirs,
        aro,
        ..
    } = golden();
    let ours = winoground(&theirs.scores);
    close("text", ours.text, theirs.text);
    close("image", ours.image, theirs.image);
    close("group", ours.group, theirs.group);
    for (least, expected) in aro.means {
        let cases = aro.kinds.iter().zip(aro.right.iter().copied());
        close("macro mean", macro_mean(cases, least), expected);
    }
}
