//! The chat: how long one waits for it, and whether the page waits as well.

use std::fmt::Write as _;

use anyhow::Result;
use plume_core::bench::Row;
use plume_core::bench::chat::FirstWord;
use plume_tests::browser::Browser;
use plume_tests::{chatting, root};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{by_command, by_page, measured, told};

/// What `plume bench --json` and the page report of a model that writes.
#[derive(Serialize, Deserialize)]
pub(super) struct Report {
    #[serde(default)]
    place: String,
    device: String,
    /// Tokens of a prompt of words alone.
    prompt: usize,
    prefill: Row,
    token: Row,
    picture: Option<Row>,
    #[serde(default)]
    first: Vec<FirstWord>,
    memory_before: Option<u64>,
    memory_loaded: Option<u64>,
    memory_after: Option<u64>,
    /// Of the page while an answer is written.
    delays: Option<Delays>,
}

/// Milliseconds in which the page did nothing else.
#[derive(Serialize, Deserialize)]
struct Delays {
    /// The longest while nothing was written.
    idle: f64,
    /// The longest while an answer was.
    writing: f64,
    /// Keys that were typed meanwhile.
    keys: usize,
    /// From a key to the frame that shows it, half of them less.
    key_median: f64,
    /// The longest of them.
    key_longest: f64,
    /// Tokens of the answer.
    tokens: usize,
}

/// Measures the model that comes with the page, everywhere.
///
/// # Errors
/// Where the page cannot be driven.
pub(super) async fn all(browser: &Browser, address: &str) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    let demo = root().join("www/demo/flamingo");
    for device in ["cpu", "gpu"] {
        let found = by_command::<Report>(Some(&demo), device);
        let what = format!("native chat {device}");
        reports.extend(measured(&what, found).map(|report| Report {
            place: "native".to_owned(),
            ..report
        }));
    }
    for device in ["cpu", "gpu"] {
        let found = by_page::<Report>(browser, address, &format!("chat,{device}")).await;
        let Some(mut report) = measured(&format!("Chromium chat {device}"), found) else {
            continue;
        };
        report.place = "Chromium".to_owned();
        let delays = delays(address, device).await;
        report.delays = measured(&format!("Chromium delays {device}"), delays);
        reports.push(report);
    }
    Ok(reports)
}

/// Has the page note the longest time between two turns of its loop, and how
/// long it was from each key to the frame that shows what it did.
const PROBE: &str = "const channel = new MessageChannel();
    window.probe = { longest: 0, keys: [] };
    let last = performance.now();
    channel.port1.onmessage = () => {
        const now = performance.now();
        probe.longest = Math.max(probe.longest, now - last);
        last = now;
        setTimeout(() => channel.port2.postMessage(null), 1);
    };
    channel.port2.postMessage(null);
    addEventListener('keydown', event =>
        requestAnimationFrame(() => probe.keys.push(performance.now() - event.timeStamp)), true);";

/// Fills the page with examples.
const MANY: &str = "const copy = document.querySelector('.shot [aria-label^=\"Duplicate\"]');
    for (let n = 4; n < 32; n++) copy.click();";

/// The page's delays while a model writes a long answer as fast as it can:
/// each word is a change to the page, beside 32 examples. The model is small, of
/// random weights.
async fn delays(address: &str, device: &str) -> Result<Delays> {
    let model = chatting::reading("bench", 4096);
    // Of its own: the page keeps what was said in it.
    let browser = &Browser::start().await?;
    chatting::open(browser, address, &model).await;
    browser.choose_device(device).await?;
    chatting::set(browser, "#most", "2000").await;
    chatting::ready_made(browser, "Counting", 4).await;
    chatting::choose_task(browser, 4).await;
    let composer = thirtyfour::By::Id("composer");
    let composer = browser.driver.find(composer).await?;
    composer.send_keys("w1 w2").await?;
    let planned = |marks: usize| {
        format!(
            "const text = document.querySelector('#raw-prompt').textContent;
             return text.includes('w1 w2') && text.split('<image>').length > {marks}"
        )
    };
    browser.until(&planned(4)).await?;
    browser.script(MANY, vec![]).await?;
    browser.until(&planned(32)).await?;
    browser.script(PROBE, vec![]).await?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let take = "const { longest, keys } = probe;
        probe.longest = 0; probe.keys = [];
        return [longest, keys]";
    let (idle, _): (f64, Vec<f64>) = serde_json::from_value(browser.script(take, vec![]).await?)?;
    browser
        .script("document.querySelector('#send').click()", vec![])
        .await?;
    browser
        .until("return document.querySelector('.turn .answer')?.dataset.answer")
        .await?;
    let done = "return document.querySelector('.turn').getAttribute('aria-busy') === 'false'";
    while browser.script(done, vec![]).await? == json!(false) {
        composer.send_keys("w3 ").await?;
    }
    let found = browser.script(take, vec![]).await?;
    let (writing, mut keys): (f64, Vec<f64>) = serde_json::from_value(found)?;
    keys.sort_by(f64::total_cmp);
    let written = "return document.querySelector('.turn .answer').dataset.answer.split(' ').length";
    let written = browser.script(written, vec![]).await?;
    Ok(Delays {
        idle,
        writing,
        key_median: keys.get(keys.len() / 2).copied().unwrap_or_default(),
        key_longest: keys.last().copied().unwrap_or_default(),
        keys: keys.len(),
        tokens: serde_json::from_value(written)?,
    })
}

/// Tables for people.
pub(super) fn markdown(reports: &[Report]) -> String {
    let mut out = String::from(
        "\ndemo Flamingo, tokens a second written and read:\n\n\
         | where | device | written | read | milliseconds for a token |\n\
         | --- | --- | ---: | ---: | ---: |\n",
    );
    for report in reports {
        let written = 1e3 / report.token.median;
        let read = report.prompt as f64 * 1e3 / report.prefill.median;
        let (place, device, token) = (&report.place, &report.device, told(&report.token));
        let _ = writeln!(
            out,
            "| {place} | {device} | {written:.0} | {read:.0} | {token} |"
        );
    }
    out += "\nMilliseconds to the first word of an answer, everything new to the model or the \
            examples known to it:\n\n\
            | device | examples | tokens | new | known | a picture |\n\
            | --- | ---: | ---: | ---: | ---: | ---: |\n";
    for report in reports {
        let picture = report.picture.as_ref().map_or_else(String::new, told);
        for first in &report.first {
            let (fresh, next) = (told(&first.fresh), told(&first.next));
            let FirstWord { shots, tokens, .. } = first;
            let device = &report.device;
            let _ = writeln!(
                out,
                "| {device} | {shots} | {tokens} | {fresh} | {next} | {picture} |"
            );
        }
    }
    for report in reports {
        let device = &report.device;
        if let [Some(before), Some(loaded), Some(after)] = [
            report.memory_before,
            report.memory_loaded,
            report.memory_after,
        ] {
            let mb = |bytes: u64| bytes as f64 / 1e6;
            let _ = writeln!(
                out,
                "\nWebAssembly's memory, {device}: {:.1} MB before, {:.1} MB loaded, {:.1} MB after.",
                mb(before),
                mb(loaded),
                mb(after)
            );
        }
        if let Some(delays) = &report.delays {
            let _ = writeln!(
                out,
                "\nThe page while {} tokens are written, {device}: its loop waits {:.0} ms at most \
                 ({:.0} ms while nothing is written); {} keys wait {:.1} ms, {:.1} ms at most.",
                delays.tokens,
                delays.writing,
                delays.idle,
                delays.keys,
                delays.key_median,
                delays.key_longest
            );
        }
    }
    out
}
