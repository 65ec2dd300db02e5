//! The worker's side of the chat, spoken to as the page does, in a real
//! Chromium: it says what `plume generate` and `plume score` say.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use plume_core::config::flamingo::FlamingoConfig;
use plume_tests::browser::{Browser, page, serve};
use plume_tests::command::{printed, well};
use plume_tests::writers::{Drawn, small_flamingo, write_flamingo};
use plume_tests::{cosine, plume, root};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

fn folder(name: &str, config: &FlamingoConfig) -> PathBuf {
    let folder = root().join("target/tmp-browser-chat").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    write_flamingo(&folder, config, &Drawn(3)).unwrap();
    folder
}

/// What a command of `plume` prints about a prompt, which is put into the
/// folder.
fn said(model: &Path, folder: &Path, command: &str, segments: &Value, more: &[&str]) -> Value {
    let prompt = folder.join("prompt.json");
    std::fs::write(&prompt, json!({ "segments": segments }).to_string()).unwrap();
    let output = Command::new(plume())
        .args([command, "--model"])
        .arg(model)
        .arg("--prompt")
        .arg(&prompt)
        .arg("--json")
        .args(more)
        .output()
        .unwrap();
    serde_json::from_str(&printed(output).unwrap()).unwrap()
}

/// A worker in a page that shows nothing else.
struct Talk {
    browser: Browser,
    requests: std::cell::Cell<u32>,
}

impl Talk {
    async fn begin(address: &str) -> Self {
        let browser = Browser::start().await.unwrap();
        let nothing = format!("{address}precache.json");
        browser.driver.goto(nothing).await.unwrap();
        let script = "window.heard = [];
            window.worker = new Worker('./worker_loader.js');
            worker.onmessage = message => heard.push(message.data[0]);
            const input = document.createElement('input');
            input.type = 'file'; input.multiple = true; input.id = 'files';
            document.body.append(input);";
        browser.script(script, vec![]).await.unwrap();
        let talk = Self {
            browser,
            requests: 0.into(),
        };
        talk.browser
            .until("return heard.includes('Started')")
            .await
            .unwrap();
        talk
    }

    /// Files that payloads are taken from.
    async fn choose(&self, folder: &Path) {
        let script = "document.querySelector('#files').value = ''";
        self.browser.script(script, vec![]).await.unwrap();
        let files = std::fs::read_dir(folder).unwrap();
        let files = files.map(|file| file.unwrap().path().canonicalize().unwrap());
        let files: Vec<_> = files.collect();
        self.browser.choose_files("#files", &files).await.unwrap();
    }

    /// Says something; the payload is a JavaScript expression over `files`.
    async fn say(&self, command: Value, payload: &str) {
        let script = format!(
            "const files = [...document.querySelector('#files').files];
             worker.postMessage([arguments[0], {payload}])"
        );
        self.browser.script(&script, vec![command]).await.unwrap();
    }

    /// What is heard first under one of these names, taken out.
    async fn hear(&self, names: &[&str]) -> (String, Value) {
        let script = format!(
            "const names = {};
             const of = one => one.Chat ?? one;
             const at = heard.findIndex(one => names.some(name => of(one)[name] !== undefined));
             if (at < 0) return null;
             const one = of(heard.splice(at, 1)[0]);
             return Object.entries(one)[0]",
            json!(names)
        );
        let pair = self.browser.until(&script).await.unwrap();
        (pair[0].as_str().unwrap().to_owned(), pair[1].clone())
    }

    /// A wish with a number, and its answer.
    async fn wish(&self, name: &str, mut wish: Value, payload: &str, answers: &[&str]) -> Value {
        let request = self.requests.get() + 1;
        self.requests.set(request);
        wish["request"] = request.into();
        self.say(json!({ "Chat": { name: wish } }), payload).await;
        let (heard, answer) = self.hear(answers).await;
        assert_eq!(answer["request"], request, "{heard}: {answer}");
        answer
    }

    async fn load(&self, device: &str) -> Value {
        let wish = json!({ "device": device, "which": "Own" });
        self.wish("Load", wish, "files", &["Loaded", "LoadFailed"])
            .await
    }

    async fn see(&self, id: u32, name: &str) {
        let payload = format!("files.find(file => file.name === '{name}')");
        self.say(json!({ "Chat": { "See": { "id": id } } }), &payload)
            .await;
        let (heard, seen) = self.hear(&["Seen", "SeeFailed"]).await;
        assert_eq!(
            (heard.as_str(), &seen["id"]),
            ("Seen", &json!(id)),
            "{seen}"
        );
    }

    async fn write(&self, prompt: &Value, how: Value, most: usize) -> Value {
        let wish = writing(prompt, &how, most);
        self.wish("Write", wish, "null", &["Written", "Failed"])
            .await
    }

    /// What has come of an answer so far, taken out.
    async fn streamed(&self) -> String {
        let script =
            "const all = heard.filter(one => one.Chat?.Text).map(one => one.Chat.Text.text);
            heard = heard.filter(one => !one.Chat?.Text);
            return all.join('')";
        let text = self.browser.script(script, vec![]).await.unwrap();
        text.as_str().unwrap().to_owned()
    }
}

fn writing(prompt: &Value, how: &Value, most: usize) -> Value {
    json!({
        "prompt": prompt, "how": how, "max_new_tokens": most, "repetition_penalty": 1.0,
        "stop": [],
    })
}

/// The same prompt as the page and the command have it.
fn prompts(pieces: &[Result<u32, &str>]) -> (Value, Value) {
    let page = pieces.iter().map(|piece| match piece {
        Ok(id) => json!({ "Media": id }),
        Err(text) => json!({ "Text": text }),
    });
    let command = pieces.iter().map(|piece| match piece {
        Ok(id) => json!({ "image": if *id == 1 { "a.png" } else { "b.png" } }),
        Err(text) => json!({ "text": text }),
    });
    (page.collect(), command.collect())
}

async fn says_what_the_command_says(talk: &Talk, folder: &Path, device: &str) {
    talk.choose(folder).await;
    let loaded = talk.load(device).await;
    let writer = &loaded["writer"];
    assert_eq!(writer["gpu"], device == "Gpu", "{loaded}");
    assert_eq!(
        (&writer["context"], &writer["tokens_per_image"]),
        (&json!(64), &json!(4))
    );
    assert_eq!(writer["gates"].as_array().unwrap().len(), 1);
    assert!(writer["weights"].as_f64().unwrap() > 1e5);
    talk.see(1, "a.png").await;
    talk.see(2, "b.png").await;
    let turns: [&[Result<u32, &str>]; 3] = [
        &[Ok(1), Err("w1 w2 w3")],
        &[Ok(1), Err("w1 w2 w3 w9 "), Ok(2), Err("w4")],
        &[Ok(2), Err("w1 w2 w3 w9 "), Ok(1), Err("w4")],
    ];
    for pieces in turns {
        let (prompt, segments) = prompts(pieces);
        let planned = talk
            .wish("Plan", json!({ "prompt": prompt }), "null", &["Planned"])
            .await;
        let expected = said(
            folder,
            folder,
            "generate",
            &segments,
            &["--max-new-tokens", "12"],
        );
        let written = talk.write(&prompt, json!("Greedy"), 12).await;
        assert_eq!(written["text"], expected["text"], "{written} {expected}");
        assert_eq!(talk.streamed().await, expected["text"].as_str().unwrap());
        assert_eq!(written["pace"]["prompt"], planned["planned"]["total"]);
        let more = ["--max-new-tokens", "8", "--beams", "3"];
        let expected = said(folder, folder, "generate", &segments, &more);
        let beams = json!({ "Beams": { "width": 3, "length_penalty": 1.0 } });
        let written = talk.write(&prompt, beams, 8).await;
        assert_eq!(written["text"], expected["text"], "{written} {expected}");
        talk.streamed().await;
        let expected = said(
            folder,
            folder,
            "score",
            &segments,
            &["--options", "w5,w6 w7"],
        );
        let wish = json!({ "prompts": [prompt], "answers": ["w5", "w6 w7"] });
        let scored = talk
            .wish("Score", wish, "null", &["Scored", "Failed"])
            .await;
        for (found, expected) in [0, 1].map(|i| (&scored["likely"][i], &expected[i])) {
            let difference = found["sum"].as_f64().unwrap() - expected["sum"].as_f64().unwrap();
            assert!(difference.abs() < 2e-3, "{scored} {expected}");
        }
    }
    let (prompt, _) = prompts(turns[1]);
    let wish = json!({ "prompt": prompt, "answer": " w5 w6", "layers": [] });
    let looked = talk.wish("Look", wish, "null", &["Looked", "Failed"]).await;
    let gazes = looked["gazes"].as_array().unwrap();
    assert!(!gazes.is_empty(), "{looked}");
    for gaze in gazes {
        let seen = &gaze["seen"][0];
        assert_eq!((&seen["picture"], &seen["columns"]), (&json!(2), &json!(2)));
        let cells = seen["cells"].as_array().unwrap().iter();
        let sum: f64 = cells.map(|cell| cell.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-3, "{looked}");
    }
}

#[tokio::test]
async fn the_worker_says_what_the_command_says_on_either_device() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let folder = folder("same", &small_flamingo());
    let server = serve(&dist);
    let talk = Talk::begin(&server.address()).await;
    for device in ["Cpu", "Gpu"] {
        says_what_the_command_says(&talk, &folder, device).await;
    }
}

#[tokio::test]
async fn the_demo_says_what_the_command_says() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let samples = root().join("www/demo/samples");
    let folder = root().join("target/tmp-browser-chat/demo");
    std::fs::create_dir_all(&folder).unwrap();
    let server = serve(&dist);
    let talk = Talk::begin(&server.address()).await;
    talk.choose(&samples).await;
    for device in ["Cpu", "Gpu"] {
        let wish = json!({ "device": device, "which": "Demo" });
        let loaded = talk
            .wish("Load", wish, "null", &["Loaded", "LoadFailed"])
            .await;
        let writer = &loaded["writer"];
        assert_eq!(
            (&writer["demo"], &writer["gpu"]),
            (&json!(true), &json!(device == "Gpu"))
        );
        let part = |name: &str| writer["style"][name].as_str().unwrap();
        let shot = format!("{}a red house{}", part("output"), part("end_of_chunk"));
        let files = ["red-house.png", "orange-cat.png"];
        let prompt = json!([
            { "Media": 1 }, { "Text": shot }, { "Media": 2 }, { "Text": part("output") },
        ]);
        let [house, cat] = files.map(|file| samples.join(file).display().to_string());
        let segments = json!([
            { "image": house }, { "text": shot }, { "image": cat }, { "text": part("output") },
        ]);
        let expected = said(
            &root().join("www/demo/flamingo"),
            &folder,
            "generate",
            &segments,
            &["--max-new-tokens", "24"],
        );
        for (id, file) in (1..).zip(files) {
            talk.see(id, file).await;
        }
        let written = talk.write(&prompt, json!("Greedy"), 24).await;
        println!("{device}: {written}");
        assert_eq!(written["text"], expected["text"], "{written} {expected}");
        assert_ne!(written["text"], "");
    }
}

#[tokio::test]
async fn an_answer_stops_at_once_and_what_cannot_be_is_said() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let mut config = small_flamingo();
    config.lm.context = 4000;
    config.lm.layers = 6;
    let long = folder("long", &config);
    let short = folder("short", &small_flamingo());
    let server = serve(&dist);
    let talk = Talk::begin(&server.address()).await;
    let (prompt, _) = prompts(&[Ok(1), Err("w1 w2 w3")]);

    // Nothing is loaded; pictures wait.
    talk.choose(&long).await;
    let failed = talk.write(&prompt, json!("Greedy"), 4).await;
    assert!(
        failed["message"].as_str().unwrap().contains("load one"),
        "{failed}"
    );
    let payload = "files.find(file => file.name === 'a.png')";
    talk.say(json!({ "Chat": { "See": { "id": 1 } } }), payload)
        .await;
    let loaded = talk.load("Cpu").await;
    assert!(loaded["writer"]["context"] == 4000, "{loaded}");

    // By chance, so that it does not soon end by itself.
    let how = json!({ "Sample": { "temperature": 0.01, "top_k": 1, "top_p": 1.0, "seed": 1 } });
    let mut wish = writing(&prompt, &how, 3900);
    wish["request"] = 77.into();
    // Told by the page itself: a driver might come when all is written. What a
    // prompt becomes is said meanwhile.
    let stop = "worker.addEventListener('message', function stop(message) {
        if (!message.data[0].Chat?.Text) return;
        worker.removeEventListener('message', stop);
        const plan = { request: 78, prompt: [{ Text: 'w1 w2' }] };
        worker.postMessage([{ Chat: { Plan: plan } }, null]);
        worker.postMessage([{ Chat: 'Stop' }, null]);
    })";
    talk.browser.script(stop, vec![]).await.unwrap();
    talk.say(json!({ "Chat": { "Write": wish } }), "null").await;
    let (_, seen) = talk.hear(&["Seen"]).await;
    assert_eq!(seen["id"], 1);
    talk.hear(&["Text"]).await;
    let (heard, planned) = talk.hear(&["Planned", "Written"]).await;
    assert_eq!(heard, "Planned", "{planned}");
    assert_eq!(planned["planned"]["total"], 2, "{planned}");
    let (_, written) = talk.hear(&["Written"]).await;
    assert_eq!(
        (&written["request"], &written["ended"]),
        (&json!(77), &json!("Stopped"))
    );
    let count = written["pace"]["written"].as_u64().unwrap();
    assert!((1..3900).contains(&count), "{written}");
    // What was there stays, and it goes on from there.
    let again = talk.write(&prompt, how, 3).await;
    let text = written["text"].as_str().unwrap();
    let again = again["text"].as_str().unwrap();
    assert!(
        text.starts_with(again) || again.starts_with(text),
        "{text}\n{again}"
    );

    // Pictures that are not there, prompts that are too long.
    let (unknown, _) = prompts(&[Ok(2), Err("w1")]);
    let failed = talk.write(&unknown, json!("Greedy"), 4).await;
    assert!(
        failed["message"].as_str().unwrap().contains("add it again"),
        "{failed}"
    );
    talk.choose(&short).await;
    talk.load("Cpu").await;
    let words = "w1 ".repeat(80);
    let (prompt, _) = prompts(&[Ok(1), Err(words.trim_end())]);
    let failed = talk.write(&prompt, json!("Greedy"), 4).await;
    assert!(
        failed["message"].as_str().unwrap().contains("room for 64"),
        "{failed}"
    );

    // The files of the other kind.
    let clip = "www/demo/clip";
    let load = json!({ "Load": { "request": 5, "device": "Cpu", "which": "Own" } });
    talk.say(load, "files").await;
    let (heard, failed) = talk.hear(&["Loaded", "LoadFailed"]).await;
    assert_eq!(heard, "LoadFailed", "{failed}");
    assert!(
        failed["message"].as_str().unwrap().contains("in the chat"),
        "{failed}"
    );
    talk.choose(&root().join(clip)).await;
    let failed = talk.load("Cpu").await;
    assert!(
        failed["message"].as_str().unwrap().contains("CLIP"),
        "{failed}"
    );
}

#[tokio::test]
async fn stop_ends_what_is_done_between_answers_and_leaves_what_waits() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let mut config = small_flamingo();
    config.lm.context = 4000;
    config.lm.layers = 6;
    let folder = folder("stops", &config);
    let server = serve(&dist);
    let talk = Talk::begin(&server.address()).await;
    talk.choose(&folder).await;
    talk.load("Cpu").await;
    talk.see(1, "a.png").await;
    let (prompt, _) = prompts(&[Ok(1), Err("w1 w2 w3")]);

    // What waits behind an answer that is stopped is left.
    let script = "const [prompt, writing] = arguments;
        const say = wish => worker.postMessage([{ Chat: wish }, null]);
        worker.addEventListener('message', function stop(message) {
            if (!message.data[0].Chat?.Text) return;
            worker.removeEventListener('message', stop);
            say({ Score: { request: 78, prompts: [prompt], answers: ['w5', 'w6 w7'] } });
            say({ Choose: { request: 79, query: 1, support: [1], count: 1 } });
            say({ Look: { request: 80, prompt, answer: ' w5', layers: [] } });
            say('Stop');
        });
        say({ Write: { ...writing, request: 77 } });";
    let how = json!({ "Sample": { "temperature": 0.01, "top_k": 1, "top_p": 1.0, "seed": 1 } });
    let arguments = vec![prompt.clone(), writing(&prompt, &how, 3900)];
    talk.browser.script(script, arguments).await.unwrap();
    for request in [78, 79, 80] {
        let (heard, news) = talk.hear(&["Failed", "Scored", "Chosen", "Looked"]).await;
        assert_eq!(heard, "Failed", "{news}");
        assert_eq!(news, json!({ "request": request, "message": "stopped" }));
    }
    let (_, written) = talk.hear(&["Written"]).await;
    assert_eq!(
        (&written["request"], &written["ended"]),
        (&json!(77), &json!("Stopped"))
    );

    // A comparison ends between two of its answers.
    let script = "const [prompt] = arguments;
        const answers = [...Array(10000).keys()].map(n => `w${n % 150} w${n % 149} w${n % 7}`);
        worker.postMessage([{ Chat: { Score: { request: 81, prompts: [prompt], answers } } }, null]);
        setTimeout(() => worker.postMessage([{ Chat: 'Stop' }, null]), 300);";
    let begun = std::time::Instant::now();
    talk.browser
        .script(script, vec![prompt.clone()])
        .await
        .unwrap();
    let (heard, news) = talk.hear(&["Scored", "Failed"]).await;
    assert_eq!(
        (heard.as_str(), &news["message"]),
        ("Failed", &json!("stopped")),
        "after {:?}",
        begun.elapsed()
    );
    // And answers the next wish.
    let wish = json!({ "prompts": [prompt], "answers": ["w5", "w6 w7"] });
    let scored = talk
        .wish("Score", wish, "null", &["Scored", "Failed"])
        .await;
    assert_eq!(scored["likely"].as_array().unwrap().len(), 2, "{scored}");
    assert!(scored["milliseconds"].as_f64().unwrap() > 0.0, "{scored}");
}

#[tokio::test]
async fn examples_are_chosen_by_the_model_that_classifies() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let talk = Talk::begin(&server.address()).await;
    talk.choose(&root().join("www/demo/samples")).await;
    let names = "return [...document.querySelector('#files').files].map(file => file.name)";
    let names = talk.browser.script(names, vec![]).await.unwrap();
    let mut names: Vec<String> = serde_json::from_value(names).unwrap();
    names.retain(|name| name.ends_with(".png"));
    for (id, name) in names.iter().enumerate() {
        let keep = json!({ "Chat": { "Keep": { "id": id } } });
        let payload = format!("files.find(file => file.name === '{name}')");
        talk.say(keep, &payload).await;
    }
    let support: Vec<usize> = (0..names.len()).collect();
    let wish = json!({ "query": 0, "support": support, "count": 3 });
    let failed = talk
        .wish("Choose", wish.clone(), "null", &["Chosen", "Failed"])
        .await;
    assert!(
        failed["message"].as_str().unwrap().contains("load one"),
        "{failed}"
    );
    let load = json!({ "Load": { "request": 5, "device": "Cpu", "which": "Demo" } });
    talk.say(load, "null").await;
    talk.hear(&["Loaded"]).await;
    let chosen = talk
        .wish("Choose", wish, "null", &["Chosen", "Failed"])
        .await;
    let chosen: Vec<(usize, f32)> = serde_json::from_value(chosen["chosen"].clone()).unwrap();
    assert_eq!(chosen.len(), 3);
    assert!(chosen.is_sorted_by(|a, b| a.1 <= b.1), "{chosen:?}");
    assert!(chosen.iter().all(|(id, _)| *id != 0));
    // As the command embeds them.
    let model = root().join("www/demo/clip").display().to_string();
    let embedding = |name: &String| -> Vec<f32> {
        let path = root().join("www/demo/samples").join(name);
        let path = path.display().to_string();
        let text = well(&["embed", "--json", "--model", &model, "--image", &path]);
        let value: Value = serde_json::from_str(&text).unwrap();
        serde_json::from_value(value["embedding"].clone()).unwrap()
    };
    let all: Vec<Vec<f32>> = names.iter().map(embedding).collect();
    let mut expected: Vec<(usize, f32)> = (1..all.len())
        .map(|id| (id, cosine(&all[0], &all[id])))
        .collect();
    expected.sort_by(|a, b| a.1.total_cmp(&b.1));
    let expected = expected.split_off(expected.len() - 3);
    for (found, expected) in chosen.iter().zip(expected) {
        assert_eq!(found.0, expected.0, "{chosen:?}");
        assert!(
            (found.1 - expected.1).abs() < 2e-3,
            "{found:?} {expected:?}"
        );
    }
}
