//! What `cargo xtask bench` runs: both models on both devices, natively and in
//! Chromium, beside open_clip where Python has it; `chat` leaves out what
//! classifies. The outcome is printed as Markdown and kept in
//! `target/bench.json`.

mod chat;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use plume_core::bench::Row;
use plume_tests::browser::{Browser, page};
use plume_tests::root;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xtask::serve::Server;

/// What `plume bench --json`, the page and the peer report.
#[derive(Serialize, Deserialize)]
struct Report {
    #[serde(default)]
    place: String,
    model: String,
    device: String,
    image_flops: f64,
    text_flops: f64,
    images: Vec<Row>,
    texts: Vec<Row>,
    roof: f64,
    /// Bytes of WebAssembly's memory before loading, after it (which is the
    /// peak: it never shrinks) and at the end.
    memory_before: Option<u64>,
    memory_loaded: Option<u64>,
    memory_after: Option<u64>,
}

/// A file that the page loads.
#[derive(Serialize)]
struct Size {
    file: String,
    bytes: u64,
    /// As servers send it, where there is a `gzip` to tell.
    compressed: Option<usize>,
}

#[derive(Serialize)]
struct Outcome {
    machine: String,
    /// Processes that wanted to run when the measurement began.
    load: String,
    reports: Vec<Report>,
    chats: Vec<chat::Report>,
    sizes: Vec<Size>,
}

#[expect(clippy::print_stderr, reason = "this is how a measurement reports")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// What was measured; why it was not is said.
fn measured<T>(what: &str, found: Result<T>) -> Option<T> {
    match found {
        Ok(found) => {
            say(&format!("measured: {what}"));
            Some(found)
        }
        Err(error) => {
            say(&format!("left out: {what} ({error:#})"));
            None
        }
    }
}

/// Runs a program that prints a report.
fn report<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    let output = command.output().context("it cannot be started")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What the command, which lies beside this one, says of a model.
fn by_command<T: DeserializeOwned>(model: Option<&Path>, device: &str) -> Result<T> {
    let plume = std::env::current_exe()?.with_file_name("plume");
    let mut command = Command::new(plume);
    command.args(["bench", "--json", "--device", device]);
    if let Some(model) = model {
        command.arg("--model").arg(model);
    }
    report(&mut command)
}

fn native(model: Option<&Path>, device: &str) -> Result<Report> {
    let mut report: Report = by_command(model, device)?;
    report.place = "native".to_owned();
    if model.is_some() {
        report.model = "demo".to_owned();
    }
    Ok(report)
}

/// open_clip, by `python3` or the Python that `PLUME_PYTHON` names.
fn peer(threads: usize) -> Result<Report> {
    let python = std::env::var_os("PLUME_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(python);
    command.arg(root().join("tests/peer.py"));
    let mut report: Report = report(command.arg(threads.to_string()))?;
    report.place = "Python".to_owned();
    Ok(report)
}

/// How long the page may measure: in software WebGPU is slow.
const PATIENCE: Duration = Duration::from_secs(900);

/// The page's own measurement. Each has a new page: WebAssembly's memory never
/// shrinks.
async fn by_page<T: DeserializeOwned>(browser: &Browser, address: &str, what: &str) -> Result<T> {
    browser.open(&format!("{address}?bench={what}")).await?;
    let text = "return document.querySelector('#bench')?.textContent";
    let text = browser.until_within(text, PATIENCE).await?;
    let text = text.as_str().unwrap_or_default();
    serde_json::from_str(text).with_context(|| text.to_owned())
}

async fn in_browser(browser: &Browser, address: &str, what: &str) -> Result<Report> {
    let mut report: Report = by_page(browser, address, what).await?;
    report.place = "Chromium".to_owned();
    Ok(report)
}

fn sizes(dist: &Path) -> Result<Vec<Size>> {
    let mut sizes = Vec::new();
    for entry in fs::read_dir(dist)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let squeezed = Command::new("gzip").arg("-9c").arg(&path).output();
        sizes.push(Size {
            file: match path.file_name().map(|name| name.to_string_lossy()) {
                Some(name) if name.starts_with("worker") => "worker.wasm (the models)".to_owned(),
                _ => "plume-app.wasm (the page)".to_owned(),
            },
            bytes: fs::metadata(&path)?.len(),
            compressed: squeezed.ok().map(|output| output.stdout.len()),
        });
    }
    sizes.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(sizes)
}

/// Name and number of the processors, and how busy they are.
fn machine() -> (String, String) {
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = about.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let name = name.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    (format!("{cores} cores of {name}"), load)
}

/// `12.3 (11.9–14.0)`: median and spread for one of the batch.
fn told(row: &Row) -> String {
    let each = |ms: f64| {
        let ms = ms / row.batch as f64;
        let digits = if ms < 10.0 {
            2
        } else {
            usize::from(ms < 100.0)
        };
        format!("{ms:.digits$}")
    };
    let (least, median, most) = (each(row.least), each(row.median), each(row.most));
    format!("{median} ({least}–{most})")
}

/// One line for each place and device.
fn table(reports: &[&Report], pick: impl Fn(&Report) -> (&[Row], f64)) -> String {
    let mut batches: Vec<usize> = reports
        .iter()
        .flat_map(|report| pick(report).0.iter().map(|row| row.batch))
        .collect();
    batches.sort_unstable();
    batches.dedup();
    let mut out = String::from("| where | device |");
    for batch in &batches {
        let _ = write!(out, " {batch} at once |");
    }
    out += " GFLOP/s | one product |\n| --- | --- |";
    out += &" ---: |".repeat(batches.len() + 2);
    out.push('\n');
    for report in reports {
        let (rows, flops) = pick(report);
        let _ = write!(out, "| {} | {} |", report.place, report.device);
        for batch in &batches {
            let row = rows.iter().find(|row| row.batch == *batch);
            let _ = write!(out, " {} |", row.map_or_else(|| "–".to_owned(), told));
        }
        let reached = |row: &Row| flops * row.batch as f64 / row.median / 1e6;
        let best = rows.iter().map(reached).fold(0.0, f64::max);
        let _ = writeln!(out, " {best:.1} | {:.1} |", report.roof);
    }
    out
}

fn markdown(outcome: &Outcome) -> String {
    let mut out = format!(
        "On {}; {} processes wanted to run when it began. Milliseconds for one, median \
         (least–most); GFLOP/s are the best of the batches, beside one large product alone.\n",
        outcome.machine, outcome.load
    );
    if outcome.reports.is_empty() {
        out += &chat::markdown(&outcome.chats);
        return out;
    }
    for model in ["demo", "ViT-B/32"] {
        let of_model = |report: &&Report| report.model == model;
        let reports: Vec<_> = outcome.reports.iter().filter(of_model).collect();
        let name = if model == "demo" {
            "demo CLIP"
        } else {
            "ViT-B/32, random weights"
        };
        let images = table(&reports, |report| (&report.images, report.image_flops));
        let texts = table(&reports, |report| (&report.texts, report.text_flops));
        let _ = write!(out, "\n{name}, for a picture:\n\n{images}");
        let _ = write!(out, "\n{name}, for a label:\n\n{texts}");
    }
    out += &chat::markdown(&outcome.chats);
    out += "\n| WebAssembly's memory | device | before | loaded (peak) | after |\n";
    out += "| --- | --- | ---: | ---: | ---: |\n";
    for report in &outcome.reports {
        let sizes = [
            report.memory_before,
            report.memory_loaded,
            report.memory_after,
        ];
        if let [Some(before), Some(loaded), Some(after)] = sizes {
            let mb = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
            let (before, loaded, after) = (mb(before), mb(loaded), mb(after));
            let (model, device) = (&report.model, &report.device);
            let _ = writeln!(
                out,
                "| {model} | {device} | {before} | {loaded} | {after} |"
            );
        }
    }
    out += "\n| file | size | gzip |\n| --- | ---: | ---: |\n";
    for size in &outcome.sizes {
        let mb = |bytes: f64| format!("{:.2} MB", bytes / 1e6);
        let squeezed = size.compressed.map_or_else(String::new, |n| mb(n as f64));
        let whole = mb(size.bytes as f64);
        let _ = writeln!(out, "| {} | {whole} | {squeezed} |", size.file);
    }
    out
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (machine, load) = machine();
    let mut outcome = Outcome {
        machine,
        load,
        reports: Vec::new(),
        chats: Vec::new(),
        sizes: Vec::new(),
    };
    let chat_alone = std::env::args().nth(1).as_deref() == Some("chat");
    if !chat_alone {
        outcome.reports = natively();
    }
    if let Some(dist) = page() {
        let server = Server::start(&dist, 0, "/")?;
        let browser = Browser::start().await?;
        if !chat_alone {
            for what in ["demo,cpu", "demo,gpu", "vit-b-32,cpu", "vit-b-32,gpu"] {
                let report = in_browser(&browser, &server.address(), what).await;
                let report = measured(&format!("Chromium {what}"), report);
                outcome.reports.extend(report);
            }
            outcome.sizes = sizes(&dist)?;
        }
        outcome.chats = chat::all(&browser, &server.address()).await?;
    }
    let path = root().join("target/bench.json");
    fs::write(&path, serde_json::to_string_pretty(&outcome)?)
        .with_context(|| path.display().to_string())?;
    print(&markdown(&outcome));
    Ok(())
}

/// Both models that classify, on both devices, and the peer.
fn natively() -> Vec<Report> {
    let demo = root().join("www/demo/clip");
    let mut reports = Vec::new();
    for device in ["cpu", "gpu"] {
        let report = native(Some(&demo), device);
        reports.extend(measured(&format!("native demo {device}"), report));
        let report = native(None, device);
        reports.extend(measured(&format!("native ViT-B/32 {device}"), report));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    reports.extend(measured("open_clip", peer(cores)));
    reports
}

#[expect(clippy::print_stdout, reason = "the tables are the product")]
fn print(text: &str) {
    println!("{text}");
}
