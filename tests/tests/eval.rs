//! `plume eval data`: every figure is made again here, from prompts written out
//! by hand and from the model's own logits.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use plume_cli::model::ModelFiles;
use plume_cli::{pictures, writer};
use plume_core::cpu::Candle;
use plume_core::models::lm::{Decoder, Pass};
use plume_core::tasks::generate::{Method, Options, generate};
use plume_core::tasks::metrics::{caption_words, cider_d, roc_auc, vqa_accuracy};
use plume_core::tasks::score::orders;
use plume_core::tasks::writer::Writer;
use plume_tests::command::{badly, well};
use plume_tests::root;
use plume_tests::writers::{Drawn, small_flamingo, write_flamingo};
use serde_json::{Value, json};

const CASES: usize = 5;

/// A folder with a model, pictures of its cases, and their lines for a task.
fn prepared(task: &str, line: impl Fn(usize) -> Value) -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("eval-{task}"));
    write_flamingo(&folder, &small_flamingo(), &Drawn(8)).unwrap();
    for i in 0..CASES {
        let colour = |x: u32, y: u32| image::Rgb([x as u8 * 6, y as u8 * 7, i as u8 * 60]);
        let picture = image::RgbImage::from_fn(40, 32, colour);
        picture.save(folder.join(format!("{i}.png"))).unwrap();
    }
    let lines: Vec<String> = (0..CASES).map(|i| line(i).to_string()).collect();
    let data = folder.join("data.jsonl");
    std::fs::write(&data, lines.join("\n")).unwrap();
    (folder, data)
}

fn eval(folder: &Path, data: &Path, rest: &[&str]) -> Value {
    let (model, data) = (folder.to_str().unwrap(), data.to_str().unwrap());
    let first = ["eval", "data", "--model", model, "--data", data, "--json"];
    serde_json::from_str(&well(&[first.as_slice(), rest].concat())).unwrap()
}

fn shots(case: &Value) -> Vec<usize> {
    serde_json::from_value(case["shots"].clone()).unwrap()
}

fn model(folder: &Path) -> Writer<Candle> {
    writer::open(&Candle::new(), folder).unwrap()
}

/// The tokens of a text, and the model that has seen these pictures before it.
fn with<T>(
    writer: &Writer<Candle>,
    folder: &Path,
    (text, images): (&str, &[usize]),
    work: impl FnOnce(&[u32], &dyn Fn(&[u32]) -> Vec<f32>) -> T,
) -> T {
    use plume_core::models::flamingo::Illustrated;
    let flamingo = writer.flamingo().unwrap();
    let see = |i: &usize| {
        let picture = pictures::open(&folder.join(format!("{i}.png"))).unwrap();
        plume_core::image::Preprocess::clip(16, plume_core::image::Family::Transformers)
            .apply(&picture)
    };
    let pixels: Vec<f32> = images.iter().flat_map(see).collect();
    let visual = flamingo.see(&pixels, &vec![1; images.len()]).unwrap();
    let media = flamingo.media(&visual, 1).unwrap();
    let ids = writer.tokenizer().encode(text, true).unwrap();
    let logits = |ids: &[u32]| {
        let reading = Illustrated::new(flamingo, &media, ids).unwrap();
        let pass = Pass::whole(flamingo.backend(), ids.len(), &[0]).unwrap();
        let x = reading.forward(ids, &pass, None).unwrap();
        pollster::block_on(flamingo.lm().logits(&x).unwrap().read()).unwrap()
    };
    work(&ids, &logits)
}

/// The mean log-likelihood of a token of an answer, without a cache.
fn likelihood(
    writer: &Writer<Candle>,
    folder: &Path,
    prompt: (&str, &[usize]),
    answer: &str,
) -> f64 {
    let answer = writer.tokenizer().encode(answer, false).unwrap();
    with(writer, folder, prompt, |ids, logits| {
        let whole = [ids, &answer].concat();
        let logits = logits(&whole);
        let vocab = logits.len() / whole.len();
        let each = answer.iter().enumerate().map(|(i, &id)| {
            let row = &logits[(ids.len() + i - 1) * vocab..][..vocab];
            let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            f64::from(row[id as usize]) - sum.ln()
        });
        each.sum::<f64>() / answer.len() as f64
    })
}

/// What the model writes after a prompt, with three beams.
fn written(
    writer: &Writer<Candle>,
    folder: &Path,
    (text, images): (&str, &[usize]),
    most: usize,
) -> String {
    let mut segments = Vec::new();
    let mut images = images.iter();
    for (i, part) in text.split("<image>").enumerate() {
        use plume_core::prompts::Segment;
        if i > 0 {
            segments.push(Segment::Image(format!("{}.png", images.next().unwrap())));
        }
        segments.push(Segment::Text(part.into()));
    }
    let prompt = writer::prompt(writer, &segments, folder).unwrap();
    let options = Options {
        max_new_tokens: most,
        method: Method::Beams {
            width: 3,
            length_penalty: 0.0,
        },
        repetition_penalty: 1.0,
        stop_tokens: vec![158],
    };
    let reading = writer.reading(&prompt).unwrap();
    let said = generate(&reading, &prompt.ids, &options, |_| {
        ControlFlow::Continue(())
    });
    writer
        .tokenizer()
        .decode(&pollster::block_on(said).unwrap().ids)
        .unwrap()
}

#[test]
fn captions() {
    let right = |i: usize| [format!("w{i} w7 w9"), format!("w{} w7", i + 40)];
    let line = |i: usize| json!({ "image": format!("{i}.png"), "captions": right(i) });
    let (folder, data) = prepared("caption", line);
    let found = eval(&folder, &data, &["--task", "caption", "--shots", "0,2"]);
    assert_eq!(found["metric"], "CIDEr-D");
    let writer = model(&folder);
    for row in found["rows"].as_array().unwrap() {
        let mut cases = Vec::new();
        for (i, case) in row["cases"].as_array().unwrap().iter().enumerate() {
            let chosen = shots(case);
            assert!(chosen.len() == 2 && !chosen.contains(&i) && chosen[0] != chosen[1]);
            // With no shots, two in words alone.
            let mark = if row["shots"] == 0 { "" } else { "<image>" };
            let shot = |shot: &usize| format!("{mark}Output:{}<|endofchunk|>\n", right(*shot)[0]);
            let text: String = chosen.iter().map(shot).collect();
            let text = format!("{text}<image>Output:");
            let mut images = if mark.is_empty() { Vec::new() } else { chosen };
            images.push(i);
            let said = written(&writer, &folder, (&text, &images), 20);
            assert_eq!(case["text"], said, "{text}");
            let words = |text: &str| caption_words(text).join(" ");
            cases.push((words(&said), right(i).map(|text| words(&text)).to_vec()));
        }
        let mean = cider_d(&cases).iter().sum::<f64>() / CASES as f64;
        assert!((row["value"].as_f64().unwrap() - 10.0 * mean).abs() < 1e-9);
    }
    // The same seed, the same; another, others.
    let all = |seed: &str| {
        eval(
            &folder,
            &data,
            &["--task", "caption", "--shots", "2", "--seed", seed],
        )
    };
    let first = all("0");
    assert_eq!(first["rows"][0], found["rows"][1]);
    let chosen = |found: &Value| -> Vec<_> {
        found["rows"][0]["cases"]
            .as_array()
            .unwrap()
            .iter()
            .map(shots)
            .collect()
    };
    assert_ne!(chosen(&all("1")), chosen(&first));
}

#[test]
fn answers() {
    let right = |i: usize| vec![format!("w{}", i + 60); 10];
    let line =
        |i: usize| json!({ "image": format!("{i}.png"), "question": "w3 w4", "answers": right(i) });
    let (folder, data) = prepared("vqa", line);
    let rest = [
        "--task",
        "vqa",
        "--shots",
        "1",
        "--queries",
        "3",
        "--beams",
        "3",
    ];
    let found = eval(&folder, &data, &rest);
    let row = &found["rows"][0];
    let writer = model(&folder);
    let cases = row["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    // Which were asked is told by what they answer: all are tried.
    let mut sum = 0.0;
    for case in cases {
        let shot = shots(case)[0];
        let shown = format!(
            "<image>Question:w3 w4 Short answer:{}<|endofchunk|>\n",
            right(shot)[0]
        );
        let text = format!("{shown}<image>Question:w3 w4 Short answer:");
        let said: Vec<_> = (0..CASES)
            .filter(|&i| i != shot)
            .map(|i| (i, written(&writer, &folder, (&text, &[shot, i]), 5)))
            .collect();
        let (i, text) = said
            .iter()
            .find(|(_, said)| case["text"] == said.as_str())
            .unwrap();
        sum += vqa_accuracy(text, &right(*i));
    }
    assert!((row["value"].as_f64().unwrap() - 100.0 * sum / 3.0).abs() < 1e-9);

    // Fewer tokens, if it is told so: what was written begins alike or not at
    // all, for beams look ahead.
    let fewer = eval(
        &folder,
        &data,
        &[&rest[..], &["--max-new-tokens", "1"]].concat(),
    );
    let words = |found: &Value| -> Vec<usize> {
        let cases = found["rows"][0]["cases"].as_array().unwrap().iter();
        cases
            .map(|case| case["text"].as_str().unwrap().split_whitespace().count())
            .collect()
    };
    assert!(words(&fewer).iter().all(|&n| n <= 1));
    assert!(words(&found).iter().any(|&n| n > 1));
}

#[test]
fn classes() {
    let label = |i: usize| ["w20", "w21 w22", "w23"][i % 3];
    let line = |i: usize| json!({ "image": format!("{i}.png"), "label": label(i) });
    let (folder, data) = prepared("classify", line);
    let rest = ["--task", "classify", "--shots", "2", "--orders", "6"];
    let found = eval(&folder, &data, &rest);
    assert_eq!(found["options"], json!(["w20", "w21 w22", "w23"]));
    let writer = model(&folder);
    let mut right = 0;
    for (i, case) in found["rows"][0]["cases"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let chosen = shots(case);
        let mut means = [0.0; 3];
        // Two shots have two orders.
        for order in orders(2, 2, 0) {
            let shown: Vec<usize> = order.iter().map(|&at| chosen[at]).collect();
            let shot = |shot: &usize| format!("<image>Output:{}<|endofchunk|>", label(*shot));
            let text: String = shown.iter().map(shot).collect();
            let text = format!("{text}<image>Output:");
            let images = [shown.as_slice(), &[i]].concat();
            for (mean, option) in means.iter_mut().zip(["w20", "w21 w22", "w23"]) {
                *mean += likelihood(&writer, &folder, (&text, &images), option) / 2.0;
            }
        }
        let theirs: Vec<f64> = serde_json::from_value(case["likelihoods"].clone()).unwrap();
        for (ours, theirs) in means.iter().zip(&theirs) {
            assert!((ours - theirs).abs() < 1e-4, "{means:?} {theirs:?}");
        }
        let best = (0..3)
            .max_by(|&a, &b| means[a].total_cmp(&means[b]))
            .unwrap();
        right += usize::from(["w20", "w21 w22", "w23"][best] == label(i));
    }
    let value = found["rows"][0]["value"].as_f64().unwrap();
    assert!((value - 100.0 * right as f64 / CASES as f64).abs() < 1e-9);
}

#[test]
fn hateful_memes() {
    let label = |i: usize| ["yes", "no"][i % 2];
    let line = |i: usize| json!({ "image": format!("{i}.png"), "text": format!("w{i}"), "label": label(i) });
    let (folder, data) = prepared("hateful", line);
    // Two words of the vocabulary are the answers.
    let path = folder.join("tokenizer.json");
    let tokenizer = std::fs::read_to_string(&path).unwrap();
    let tokenizer = tokenizer
        .replace("\"w61\"", "\"yes\"")
        .replace("\"w62\"", "\"no\"");
    std::fs::write(&path, tokenizer).unwrap();
    let found = eval(
        &folder,
        &data,
        &["--task", "hateful", "--shots", "0", "--orders", "1"],
    );
    let writer = model(&folder);
    let (mut scores, mut hateful) = (Vec::new(), Vec::new());
    for (i, case) in found["rows"][0]["cases"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let asked =
            |i: usize| format!("is an image with: 'w{i}' written on it. Is it hateful? Answer:");
        let shot = |&shot: &usize| format!("{}{}<|endofchunk|>", asked(shot), label(shot));
        let text: String = shots(case).iter().map(shot).collect();
        let text = format!("{text}<image>{}", asked(i));
        let each = ["no", "yes"].map(|option| likelihood(&writer, &folder, (&text, &[i]), option));
        let theirs: Vec<f64> = serde_json::from_value(case["likelihoods"].clone()).unwrap();
        assert!(each.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-4));
        assert!((each[0] - each[1]).abs() > 1e-3);
        scores.push(theirs[1].exp() / (theirs[0].exp() + theirs[1].exp()));
        hateful.push(label(i) == "yes");
    }
    let expected = 100.0 * roc_auc(&scores, &hateful).unwrap();
    assert!((found["rows"][0]["value"].as_f64().unwrap() - expected).abs() < 1e-9);
}

#[test]
fn winoground() {
    let captions = |i: usize| [format!("w{} w31", i + 20), format!("w31 w{}", i + 20)];
    let images = |i: usize| [i, (i + 1) % CASES];
    let line = |i: usize| json!({ "images": images(i).map(|i| format!("{i}.png")), "captions": captions(i) });
    let (folder, data) = prepared("winoground", line);
    let found = eval(&folder, &data, &["--task", "winoground", "--shots", "0"]);
    let writer = model(&folder);
    let (mut text, mut image, mut group) = (0, 0, 0);
    for (i, case) in found["rows"][0]["cases"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        assert!(shots(case).is_empty());
        let s = captions(i).map(|caption| {
            images(i)
                .map(|i| 2.0 * likelihood(&writer, &folder, ("<image>Output:", &[i]), &caption))
        });
        let theirs: Vec<f64> = serde_json::from_value(case["likelihoods"].clone()).unwrap();
        assert!(
            s.as_flattened()
                .iter()
                .zip(&theirs)
                .all(|(a, b)| (a - b).abs() < 1e-4)
        );
        let t = theirs[0] > theirs[2] && theirs[3] > theirs[1];
        let p = theirs[0] > theirs[1] && theirs[3] > theirs[2];
        (text, image, group) = (
            text + u32::from(t),
            image + u32::from(p),
            group + u32::from(t && p),
        );
    }
    let row = &found["rows"][0];
    for (key, count) in [("text", text), ("image", image), ("value", group)] {
        let expected = 100.0 * f64::from(count) / CASES as f64;
        assert!(
            (row[key].as_f64().unwrap() - expected).abs() < 1e-9,
            "{key}"
        );
    }
}

/// The most similar by the demo's CLIP, the most similar last; a table for
/// people.
#[test]
fn shots_by_similarity() {
    let line = |i: usize| json!({ "image": format!("{i}.png"), "label": format!("w{i}") });
    let (folder, data) = prepared("rices", line);
    let demo = root().join("www/demo/clip");
    let clip = demo.to_str().unwrap();
    let rest = [
        "--task", "classify", "--shots", "3", "--select", "rices", "--clip", clip,
    ];
    let found = eval(&folder, &data, &rest);
    let classifier = ModelFiles::find(&demo)
        .unwrap()
        .classifier(&Candle::new())
        .unwrap();
    let embed = |i: usize| {
        let picture = pictures::open(&folder.join(format!("{i}.png"))).unwrap();
        let pixels = classifier.preprocess().unwrap().apply(&picture);
        pollster::block_on(classifier.embed_images(&pixels))
            .unwrap()
            .remove(0)
    };
    let all: Vec<Vec<f32>> = (0..CASES).map(embed).collect();
    for (i, case) in found["rows"][0]["cases"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let cosine = |j: usize| -> f32 { all[i].iter().zip(&all[j]).map(|(a, b)| a * b).sum() };
        let mut others: Vec<usize> = (0..CASES).filter(|&j| j != i).collect();
        others.sort_by(|&a, &b| cosine(a).total_cmp(&cosine(b)));
        assert_eq!(shots(case), others[1..]);
    }
    let (model, data) = (folder.to_str().unwrap(), data.to_str().unwrap());
    let table = well(&[
        "eval", "data", "--model", model, "--data", data, "--task", "classify", "--shots", "0,1",
    ]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[..2], ["| shots | top-1 |", "| ---: | ---: |"]);
    assert!(lines[2].starts_with("| 0 | ") && lines[3].starts_with("| 1 | "));
    // More shots than there are, and a line that lacks something.
    let asked = ["eval", "data", "--model", model, "--data", data, "--task"];
    let told = badly(&[asked.as_slice(), &["classify", "--shots", "9"]].concat());
    assert!(told.contains("--support"), "{told}");
    let told = badly(&[asked.as_slice(), &["vqa"]].concat());
    assert!(
        told.contains("line 1") && told.contains("question"),
        "{told}"
    );
    let distinct: BTreeSet<_> = (0..CASES).map(|i| format!("w{i}")).collect();
    assert_eq!(found["options"], json!(distinct));
}
