//! What an answer leaves on the page, in a real Chromium: its versions, what
//! wrote it, the examples that were chosen for it, what its words saw, and how it
//! is followed and read aloud.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_tests::browser::{Browser, page, serve};
use plume_tests::chatting::{
    act, answer, choose_task, click, give, open, put_sample, reading, ready_made, send, set, small,
    type_into, visit,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

/// A browser in which a script hears what the worker says to the chat (`chat`)
/// before the page does, counts what the page wishes (`wishes`) and keeps the
/// last wish of each kind (`asked`).
async fn hearing(script: &str) -> Browser {
    let browser = Browser::start().await.unwrap();
    let source = format!(
        "const Native = Worker;
         window.wishes = {{}};
         window.asked = {{}};
         window.Worker = class extends Native {{
             set onmessage(handle) {{
                 super.onmessage = handle && (event => {{
                     const chat = event.data[0]?.Chat;
                     if (chat) {{ {script} }}
                     handle(event);
                 }});
             }}
             postMessage(message, ...more) {{
                 const name = Object.keys(message[0]?.Chat ?? {{}})[0];
                 wishes[name] = (wishes[name] ?? 0) + 1;
                 asked[name] = message[0]?.Chat?.[name];
                 super.postMessage(message, ...more);
             }}
         }}"
    );
    let tools = browser.driver.cdp();
    let wish = json!({ "source": source });
    tools
        .send_raw("Page.addScriptToEvaluateOnNewDocument", wish)
        .await
        .unwrap();
    browser
}

async fn read(browser: &Browser, script: &str) -> Value {
    browser.script(script, vec![]).await.unwrap()
}

async fn compare(browser: &Browser) {
    act(
        browser,
        "document.querySelector('#modes button:nth-child(2)').click()",
    )
    .await;
}

const PLACE: &str = "return document.querySelector('.turn .versions [data-place]')?.textContent";
const BY: &str = "return document.querySelector('.turn .by')?.textContent";
const SAID: &str = "return document.querySelector('.turn .answer').dataset.answer";

#[tokio::test]
async fn answered_once_more_a_turn_keeps_every_version() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    let address = server.address();
    open(&browser, &address, &reading("versions", 512)).await;
    set(&browser, "#choice", "sample").await;
    browser
        .until("return document.querySelector('#temperature')")
        .await
        .unwrap();
    set(&browser, "#temperature", "5").await;
    set(&browser, "#top-p", "1").await;
    set(&browser, "#most", "4").await;
    put_sample(&browser, 1).await;
    let first = send(&browser).await;
    assert!(read(&browser, PLACE).await.is_null());
    click(&browser, ".turn [data-act='again']").await;
    let second = answer(&browser).await;
    assert_ne!(first, second);
    assert_eq!(read(&browser, PLACE).await, "Version 2/2");
    let by = read(&browser, BY).await;
    for word in ["model.safetensors", "temperature 5", "seed 2"] {
        assert!(by.as_str().unwrap().contains(word), "{by}");
    }
    let figures = "return document.querySelector('.turn .timings').textContent";
    let figures = read(&browser, figures).await;
    for word in ["first word after", "tokens/s"] {
        assert!(figures.as_str().unwrap().contains(word), "{figures}");
    }

    // The one before: the conversation goes on from it.
    click(&browser, ".versions [data-act='earlier']").await;
    browser
        .until(&format!("{SAID} === {}", json!(first)))
        .await
        .unwrap();
    assert_eq!(read(&browser, PLACE).await, "Version 1/2");
    let by = read(&browser, BY).await;
    assert!(by.as_str().unwrap().contains("seed 1"), "{by}");
    put_sample(&browser, 2).await;
    let raw = format!(
        "const text = document.querySelector('#raw-prompt').textContent;
         return text.includes({}) && text.endsWith('<image>Output:') && text",
        json!(first)
    );
    let raw = browser.until(&raw).await.unwrap();
    assert!(!raw.as_str().unwrap().contains(&second), "{raw}");
    send(&browser).await;
    // What was sent can be read on the turn, to the letter.
    let exact = "return document.querySelector('.turn:last-child [data-exact]').textContent";
    assert_eq!(read(&browser, exact).await, raw);
    let copies = "return document.querySelector('.turn:last-child [data-act=\"copy-prompt\"]')";
    browser.until(copies).await.unwrap();

    // Everything is there again.
    let kept = "return (async () => {
        const asked = request => new Promise((done, failed) => {
            request.onsuccess = () => done(request.result); request.onerror = failed; });
        const database = await asked(indexedDB.open('plume-chat'));
        const records = database.transaction('records').objectStore('records');
        const all = await asked(records.getAll());
        database.close();
        return all.some(record => JSON.parse(record).turns?.[1]?.answer); })()";
    browser.until(kept).await.unwrap();
    browser.driver.goto("about:blank").await.unwrap();
    visit(&browser, &address).await;
    assert_eq!(browser.until(PLACE).await.unwrap(), "Version 1/2");
    assert_eq!(read(&browser, SAID).await, json!(first));
    click(&browser, ".versions [data-act='later']").await;
    browser
        .until(&format!("{SAID} === {}", json!(second)))
        .await
        .unwrap();

    // One's own words are a version too.
    click(&browser, ".turn [data-act='edit']").await;
    set(&browser, ".edit textarea", "w1 w2").await;
    click(&browser, ".edit [data-act='save']").await;
    browser.until(&format!("{SAID} === 'w1 w2'")).await.unwrap();
    assert_eq!(read(&browser, PLACE).await, "Version 3/3");
}

#[tokio::test]
async fn a_seed_that_is_typed_gives_its_words_again() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &reading("seed", 512)).await;
    set(&browser, "#choice", "sample").await;
    browser
        .until("return document.querySelector('#temperature')")
        .await
        .unwrap();
    set(&browser, "#temperature", "5").await;
    set(&browser, "#top-p", "1").await;
    set(&browser, "#most", "4").await;
    put_sample(&browser, 1).await;
    let again = async || {
        click(&browser, ".turn [data-act='again']").await;
        answer(&browser).await
    };
    let seed = "return document.querySelector('#seed').value";
    let first = send(&browser).await;
    // The same once more would be the same words: it is the next seed's turn.
    let second = again().await;
    assert_ne!(first, second);
    assert_eq!(read(&browser, seed).await, "2");
    set(&browser, "#seed", "1").await;
    assert_eq!(again().await, first);
    assert_eq!(read(&browser, seed).await, "1");
    assert_eq!(again().await, second);
    assert_eq!(read(&browser, seed).await, "2");
}

#[tokio::test]
async fn the_measure_decides_which_compared_answer_counts() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = hearing(
        "if (chat.Scored) chat.Scored.likely = [{ sum: -2, mean: -2 }, { sum: -3, mean: -0.5 }];",
    )
    .await;
    open(&browser, &server.address(), &small("measure")).await;
    compare(&browser).await;
    set(&browser, "#choices-input", "w3\nw4 w5 w6").await;
    put_sample(&browser, 1).await;
    assert_eq!(send(&browser).await, "w4 w5 w6");
    let told = "return document.querySelector('.turn .timings').textContent";
    let told = read(&browser, told).await;
    assert!(told.as_str().unwrap().contains("Compared in"), "{told}");
    let top = "return document.querySelector('.turn .likely.best').dataset.answer";
    for (by, best) in [("sum", "w3"), ("mean", "w4 w5 w6")] {
        set(&browser, "#by", by).await;
        browser
            .until(&format!("{SAID} === {}", json!(best)))
            .await
            .unwrap();
        assert_eq!(read(&browser, top).await, best);
    }
}

#[tokio::test]
async fn what_was_compared_is_looked_into_as_it_was_scored() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = hearing("").await;
    open(&browser, &server.address(), &small("scored")).await;
    for (nth, words) in [(1, "w3"), (2, "w4 w5")] {
        click(&browser, "#add-shot").await;
        let field = format!(".shot:nth-child({nth}) .shot-answer");
        type_into(&browser, &field, words).await;
    }
    compare(&browser).await;
    set(&browser, "#orders", "6").await;
    put_sample(&browser, 1).await;
    let likeliest = send(&browser).await;
    // Two examples have two orders.
    let told = "return document.querySelector('.turn .timings').textContent";
    let told = read(&browser, told).await;
    assert!(told.as_str().unwrap().contains("over 2 orders"), "{told}");
    let prompts = read(&browser, "return window.asked.Score.prompts").await;
    let prompts = prompts.as_array().unwrap();
    assert_eq!(prompts.len(), 2);
    assert_ne!(prompts[0], prompts[1]);

    // The blank before an answer belongs to it.
    let looked = async |words: &str| {
        let open = "document.querySelector('.turn .inside > summary').click()";
        act(&browser, open).await;
        let anyway = "const button = document.querySelector('.turn [data-act=\"look-anyway\"]');
            button?.click(); ";
        let asked = format!("return window.asked.Look?.answer === {}", json!(words));
        browser.until(&format!("{anyway}{asked}")).await.unwrap();
    };
    looked(&format!(" {likeliest}")).await;
    click(&browser, ".turn [data-act='edit']").await;
    set(&browser, ".edit textarea", "w1 w2").await;
    click(&browser, ".edit [data-act='save']").await;
    browser.until(&format!("{SAID} === 'w1 w2'")).await.unwrap();
    looked(" w1 w2").await;
}

#[tokio::test]
async fn a_turn_says_which_examples_were_chosen_for_it_and_by_whom() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = hearing("").await;
    open(&browser, &server.address(), &reading("rices", 2048)).await;
    set(&browser, "#most", "4").await;
    ready_made(&browser, "Made-up kinds", 8).await;
    set(&browser, "#similar", "2").await;
    let chooser = "return document.querySelector('#chooser')?.textContent.includes('drawings')";
    browser.until(chooser).await.unwrap();
    let chosen = "return document.querySelectorAll('.similarity.chosen').length === 2";
    browser.until(chosen).await.unwrap();
    send(&browser).await;
    let examples = "return [...document.querySelectorAll('.turn .chosen-examples li')].map(one => +one.dataset.cosine)";
    let cosines: Vec<f64> = serde_json::from_value(read(&browser, examples).await).unwrap();
    assert_eq!(cosines.len(), 2);
    assert!(cosines[0] <= cosines[1], "{cosines:?}");
    let by = "return document.querySelector('.turn .chosen-examples summary').textContent";
    let by = read(&browser, by).await;
    assert!(by.as_str().unwrap().contains("by Plume's drawings"), "{by}");

    // Another letter asks for nothing, another CLIP does.
    let none = "return document.querySelectorAll('.similarity').length === 0";
    browser.until(none).await.unwrap();
    put_sample(&browser, 1).await;
    browser.until(chosen).await.unwrap();
    let count = "return window.wishes.Choose";
    let before = read(&browser, count).await;
    choose_task(&browser, 2).await;
    type_into(&browser, "#composer", "w7").await;
    let raw = "return document.querySelector('#raw-prompt').textContent.includes('w7')";
    browser.until(raw).await.unwrap();
    assert_eq!(read(&browser, count).await, before);
    click(&browser, "#job-classify").await;
    browser
        .until("return location.hash.startsWith('#labels')")
        .await
        .unwrap();
    browser.choose_device("gpu").await.unwrap();
    browser
        .until(&format!("return window.wishes.Choose > {before}"))
        .await
        .unwrap();
}

/// Which pictures a word may see, once it was chosen.
async fn sees(browser: &Browser, word: &str) -> Vec<bool> {
    act(
        browser,
        &format!(
            "[...document.querySelectorAll('.prompt-words .words button')]
                .find(button => button.textContent.trim() === '{word}').click()"
        ),
    )
    .await;
    let said = format!(
        "return document.querySelector('.inside .said').textContent.includes('“{word}”')
            && [...document.querySelectorAll('.inside .gaze')].map(one => !one.classList.contains('unseen-picture'))"
    );
    serde_json::from_value(browser.until(&said).await.unwrap()).unwrap()
}

#[tokio::test]
async fn every_word_of_the_prompt_shows_which_picture_it_may_see() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &small("mask")).await;
    set(&browser, "#most", "4").await;
    choose_task(&browser, 4).await;
    click(&browser, "#composer").await;
    type_into(&browser, "#composer", "w11 w12 ").await;
    put_sample(&browser, 1).await;
    type_into(&browser, "#composer", " w13 ").await;
    put_sample(&browser, 2).await;
    type_into(&browser, "#composer", " w14").await;
    let whole = "return document.querySelector('#raw-prompt').textContent === 'w11 w12 <image> w13 <image> w14'";
    browser.until(whole).await.unwrap();
    send(&browser).await;
    act(
        &browser,
        "document.querySelector('.turn .inside > summary').click()",
    )
    .await;
    browser
        .until("return document.querySelectorAll('.turn .heat i').length >= 4")
        .await
        .unwrap();
    act(
        &browser,
        "document.querySelector('.prompt-words > summary').click()",
    )
    .await;
    browser
        .until("return document.querySelectorAll('.prompt-words .words button').length >= 4")
        .await
        .unwrap();
    assert_eq!(sees(&browser, "w11").await, [false, false]);
    assert_eq!(sees(&browser, "w13").await, [true, false]);
    assert_eq!(sees(&browser, "w14").await, [false, true]);
}

#[tokio::test]
async fn a_look_inside_says_where_another_model_wrote() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    visit(&browser, &server.address()).await;
    browser.device().await.unwrap();
    put_sample(&browser, 1).await;
    assert!(!send(&browser).await.is_empty());
    give(&browser, &small("stranger")).await;
    act(
        &browser,
        "document.querySelector('.turn .inside > summary').click()",
    )
    .await;
    let told = "return document.querySelector('.turn .stranger')?.textContent";
    let told = browser.until(told).await.unwrap();
    for name in ["Plume's drawings, in words", "model.safetensors"] {
        assert!(told.as_str().unwrap().contains(name), "{told}");
    }
    let shown = "return document.querySelectorAll('.turn .gates, .turn .heat').length";
    assert_eq!(read(&browser, shown).await, 0);
    click(&browser, ".turn [data-act='look-anyway']").await;
    browser
        .until("return document.querySelectorAll('.turn .heat i').length >= 4")
        .await
        .unwrap();
}

#[tokio::test]
async fn the_view_follows_an_answer_unless_the_reader_scrolls_up() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &reading("follow", 16384)).await;
    set(&browser, "#most", "2048").await;
    put_sample(&browser, 1).await;
    click(&browser, "#send").await;
    let longer = |than: usize| {
        format!(
            "const text = document.querySelector('.turn .answer')?.dataset.answer ?? '';
             return text.length > {than} && text.length"
        )
    };
    browser.until(&longer(2500)).await.unwrap();
    // A frame later what has come is in view, above the composer.
    let hidden =
        "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() =>
        done(document.querySelector('.answered').getBoundingClientRect().bottom
            - document.querySelector('.composer').getBoundingClientRect().top))))";
    let hidden = read(&browser, hidden).await;
    // A line may have come since.
    assert!(hidden.as_f64().unwrap() < 40.0, "{hidden}");
    act(&browser, "window.scrollTo(0, 0)").await;
    let now = browser.until(&longer(0)).await.unwrap();
    let now = now.as_u64().unwrap() as usize;
    browser.until(&longer(now + 300)).await.unwrap();
    assert_eq!(read(&browser, "return window.scrollY").await, 0);
    act(&browser, "document.querySelector('#stop')?.click()").await;
    answer(&browser).await;
}

/// Writes down what is read aloud, in `said`.
const LISTEN: &str = "window.said = [];
    const live = document.querySelector('#live');
    new MutationObserver(() => said.push(live.textContent))
        .observe(live, { childList: true, characterData: true, subtree: true });";

#[tokio::test]
async fn an_answer_is_read_aloud_once() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    // Every word ends a sentence.
    let browser = hearing(
        "for (const said of [chat.Text, chat.Written]) {
             if (said) said.text = said.text.replaceAll(' ', '. ');
         }",
    )
    .await;
    open(&browser, &server.address(), &small("aloud")).await;
    set(&browser, "#most", "12").await;
    put_sample(&browser, 1).await;
    act(&browser, LISTEN).await;
    let whole = send(&browser).await;
    let rest = whole.rsplit(". ").next().unwrap();
    browser
        .until(&format!("return window.said.includes({})", json!(rest)))
        .await
        .unwrap();
    let said = read(&browser, "return window.said").await;
    let said: Vec<String> = serde_json::from_value(said).unwrap();
    assert!(said.iter().any(|one| one.ends_with('.')), "{said:?}");
    assert_eq!(said.last().unwrap(), rest, "{said:?}");
    let spoken: usize = said.iter().map(String::len).sum();
    assert!(spoken <= whole.len(), "{said:?} {whole}");
}

#[tokio::test]
async fn an_equal_answer_is_read_aloud_as_well() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    // A dot within a word ends no sentence.
    let browser = hearing(
        "for (const said of [chat.Text, chat.Written]) {
             if (said) said.text = said.text.replaceAll(' ', ' 3.5');
         }",
    )
    .await;
    open(&browser, &server.address(), &small("equal")).await;
    set(&browser, "#most", "4").await;
    put_sample(&browser, 1).await;
    act(&browser, LISTEN).await;
    let first = send(&browser).await;
    assert!(first.contains("3.5"), "{first}");
    browser
        .until("return window.said.length >= 1")
        .await
        .unwrap();
    click(&browser, ".turn [data-act='again']").await;
    assert_eq!(answer(&browser).await, first);
    browser
        .until("return window.said.length >= 2")
        .await
        .unwrap();
    let told = format!("Answer: {first}");
    let said = read(&browser, "return window.said").await;
    assert_eq!(said, json!([told, told]));
}
