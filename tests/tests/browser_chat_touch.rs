//! What moves and goes by a single tap, and what is dragged and pasted into a
//! field, in a real Chromium; a phone, as far as the page can tell, taps.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_tests::browser::{Browser, page, sample, serve};
use plume_tests::chatting::{act, choose_task, click, open, small, type_into, visit};
use serde_json::{Value, json};
use thirtyfour::{By, Key};
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

/// Waits until the composer holds this, `*` for a picture.
async fn holds(browser: &Browser, expected: &str) {
    let script = format!(
        "return [...document.querySelector('#composer').childNodes].map(node =>
            node.dataset?.media ? '*' : node.textContent.replaceAll('\u{200b}', '')).join('').trim()
            === '{expected}'"
    );
    browser.until(&script).await.unwrap();
}

/// Waits until this is read aloud.
async fn heard(browser: &Browser, words: &str) {
    let script = format!("return document.querySelector('#live').textContent === '{words}'");
    browser.until(&script).await.unwrap();
}

/// Presses a key together with Control in the composer.
async fn control(browser: &Browser, key: &str) {
    let field = browser.driver.find(By::Id("composer")).await.unwrap();
    field.send_keys(Key::Control + key).await.unwrap();
}

async fn put_cat(browser: &Browser) {
    let cat = sample("orange-cat.png");
    browser
        .choose_files("#chat-file-input", &[cat])
        .await
        .unwrap();
    let there = "return document.querySelector('#composer .media') !== null";
    browser.until(there).await.unwrap();
}

async fn tool(browser: &Browser, name: &str, arguments: Value) {
    let tools = browser.driver.cdp();
    tools.send_raw(name, arguments).await.unwrap();
}

/// Makes the page one on a phone.
async fn phone(browser: &Browser) {
    let size = json!({"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true});
    tool(browser, "Emulation.setDeviceMetricsOverride", size).await;
    let touch = json!({"enabled": true});
    tool(browser, "Emulation.setTouchEmulationEnabled", touch).await;
    let fingers = "return matchMedia('(pointer: coarse)').matches";
    browser.until(fingers).await.unwrap();
}

/// Taps on an element, which must be seen and large enough for a finger.
async fn tap(browser: &Browser, css: &str) {
    let element = format!("document.querySelector(\"{css}\")");
    browser.until(&format!("return {element}")).await.unwrap();
    let show = "scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' })";
    act(browser, &format!("{element}.{show}")).await;
    // It may be drawn at its new place only now.
    let seen = format!(
        "const element = {element}, box = element.getBoundingClientRect();
         const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
         if (!element.contains(document.elementFromPoint(x, y))) return null;
         if (getComputedStyle(element).opacity !== '1') return null;
         return Math.min(box.width, box.height) >= 24 && [x, y]"
    );
    let place = browser.until(&seen).await.unwrap();
    let start = json!({"type": "touchStart", "touchPoints": [{"x": place[0], "y": place[1]}]});
    tool(browser, "Input.dispatchTouchEvent", start).await;
    let end = json!({"type": "touchEnd", "touchPoints": []});
    tool(browser, "Input.dispatchTouchEvent", end).await;
}

#[tokio::test]
async fn a_picture_in_a_field_moves_and_goes_by_taps_and_comes_back() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &small("taps")).await;
    choose_task(&browser, 4).await;
    type_into(&browser, "#composer", "w1 w2 ").await;
    put_cat(&browser).await;

    // What a pointer that hovers has not brought takes nothing out.
    let out = "const out = document.querySelector('.media-out'), box = out.getBoundingClientRect();
        const at = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);";
    let covered = format!("{out} return at !== out && getComputedStyle(out).opacity === '0'");
    browser.until(&covered).await.unwrap();
    act(&browser, "document.querySelector('.media').focus()").await;
    let there = format!("{out} return at === out && getComputedStyle(out).opacity === '1'");
    browser.until(&there).await.unwrap();
    // The keys undo what was taken out, but not what was written since.
    let delete = "document.querySelector('.media').dispatchEvent(
        new KeyboardEvent('keydown', { key: 'Delete', bubbles: true, cancelable: true }))";
    act(&browser, delete).await;
    holds(&browser, "w1 w2").await;
    control(&browser, "z").await;
    holds(&browser, "w1 w2 *").await;
    act(&browser, delete).await;
    type_into(&browser, "#composer", "w3").await;
    control(&browser, "z").await;
    let offered = "return document.querySelector('#undo') !== null";
    browser.until(offered).await.unwrap();
    holds(&browser, "w1 w2").await;
    act(&browser, "document.querySelector('#undo').click()").await;
    holds(&browser, "w1 w2 *").await;

    phone(&browser).await;
    tap(&browser, ".media-earlier").await;
    heard(&browser, "Moved, now before “w2”").await;
    holds(&browser, "w1 *w2").await;
    tap(&browser, ".media-earlier").await;
    heard(&browser, "Moved, now at the front").await;
    holds(&browser, "*w1 w2").await;
    // There it stays, and nothing is said of it.
    let listen = "window.heard = document.querySelector('#live span');
        window.addEventListener('click', () => { window.tapped = true; });";
    act(&browser, listen).await;
    tap(&browser, ".media-earlier").await;
    browser.until("return window.tapped").await.unwrap();
    let same = "return window.heard === document.querySelector('#live span')";
    assert_eq!(browser.script(same, vec![]).await.unwrap(), json!(true));
    holds(&browser, "*w1 w2").await;
    tap(&browser, ".media-later").await;
    heard(&browser, "Moved, now before “w2”").await;

    tap(&browser, ".media-out").await;
    holds(&browser, "w1 w2").await;
    let raw = |text: &str| {
        format!("return document.querySelector('#raw-prompt').textContent.includes('{text}')")
    };
    browser.until(&raw("w1 w2")).await.unwrap();
    tap(&browser, "#undo").await;
    holds(&browser, "w1 *w2").await;
    browser.until(&raw("w1 <image>w2")).await.unwrap();
}

#[tokio::test]
async fn examples_move_by_taps() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    visit(&browser, &server.address()).await;
    for (nth, answer) in [(1, "one"), (2, "two"), (3, "three")] {
        click(&browser, "#add-shot").await;
        let field = format!(".shot:nth-child({nth}) .shot-answer");
        type_into(&browser, &field, answer).await;
    }
    phone(&browser).await;
    let answers = async |expected: &str| {
        let found = format!(
            "return [...document.querySelectorAll('.shot-answer')]
                .map(field => field.value).join() === '{expected}'"
        );
        browser.until(&found).await.unwrap();
    };
    let focus = async |label: &str| {
        let found = format!("return document.activeElement.ariaLabel === '{label}'");
        browser.until(&found).await.unwrap();
    };
    tap(&browser, "[aria-label='Move example 3 earlier']").await;
    answers("one,three,two").await;
    heard(&browser, "Example moved to place 2").await;
    focus("Move example 2 earlier").await;
    tap(&browser, "[aria-label='Move example 2 earlier']").await;
    answers("three,one,two").await;
    // At the front it can only go back.
    focus("Move example 1 later").await;
    let ends = "return [...document.querySelectorAll('.step:disabled')]
        .map(button => button.ariaLabel).join()";
    assert_eq!(
        browser.until(ends).await.unwrap(),
        "Move example 1 earlier,Move example 3 later"
    );
    tap(&browser, "[aria-label='Move example 1 later']").await;
    answers("one,three,two").await;
}

/// The middle of the nth letter of the composer's first text, on the screen.
async fn letter(browser: &Browser, nth: usize) -> [i64; 2] {
    let script = format!(
        "const field = document.querySelector('#composer');
         field.normalize();
         const range = document.createRange();
         range.setStart(field.firstChild, {nth});
         range.setEnd(field.firstChild, {nth} + 1);
         const box = range.getBoundingClientRect();
         return [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)]"
    );
    serde_json::from_value(browser.script(&script, vec![]).await.unwrap()).unwrap()
}

/// Drags what is selected from one place on the screen to the left half of
/// another.
async fn drag(browser: &Browser, from: [i64; 2], to: [i64; 2]) {
    let chain = browser.driver.action_chain();
    let chain = chain.move_to(from[0], from[1]).click_and_hold();
    let chain = chain.move_by_offset(4, 2).move_to(to[0], to[1]);
    let chain = chain.move_by_offset(-3, 0).release();
    chain.perform().await.unwrap();
}

#[tokio::test]
async fn words_are_dragged_into_a_field_and_within_it() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &small("words-dragged")).await;
    choose_task(&browser, 4).await;
    type_into(&browser, "#composer", "w1 w2 ").await;
    put_cat(&browser).await;
    act(
        &browser,
        "document.querySelector('#composer').scrollIntoView({ block: 'center' })",
    )
    .await;

    // From another page, before the second word.
    let [x, y] = letter(&browser, 3).await;
    for kind in ["dragEnter", "dragOver", "drop"] {
        let data = json!({
            "items": [{"mimeType": "text/plain", "data": "w3 "}], "dragOperationsMask": 1
        });
        let event = json!({"type": kind, "x": x - 3, "y": y, "data": data});
        tool(&browser, "Input.dispatchDragEvent", event).await;
    }
    holds(&browser, "w1 w3 w2 *").await;
    let raw =
        "return document.querySelector('#raw-prompt').textContent.includes('w1 w3 w2 <image>')";
    browser.until(raw).await.unwrap();

    // Words, and then words with a picture, from one place of the field to another.
    let select = "const field = document.querySelector('#composer');
        field.normalize();
        const range = document.createRange();
        range.setStart(field.firstChild, arguments[0]);
        if (arguments[1]) range.setEnd(field.firstChild, arguments[1]);
        else range.setEndAfter(field.querySelector('.media'));
        getSelection().removeAllRanges();
        getSelection().addRange(range);";
    let words = vec![json!(3), json!(6)];
    browser.script(select, words).await.unwrap();
    let (from, to) = (letter(&browser, 4).await, letter(&browser, 0).await);
    drag(&browser, from, to).await;
    holds(&browser, "w3 w1 w2 *").await;
    let with_picture = vec![json!(6), json!(null)];
    browser.script(select, with_picture).await.unwrap();
    let (from, to) = (letter(&browser, 7).await, letter(&browser, 0).await);
    drag(&browser, from, to).await;
    holds(&browser, "w2 *w3 w1").await;
}

#[tokio::test]
async fn what_was_copied_is_pasted_or_it_is_told_why_not() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    visit(&browser, &server.address()).await;
    type_into(&browser, "#composer", "w1 ").await;
    put_cat(&browser).await;
    control(&browser, "a").await;
    control(&browser, "c").await;
    // Copied, it outlives its place and the offers to undo.
    act(&browser, "document.querySelector('.media-out').click()").await;
    holds(&browser, "w1").await;
    click(&browser, "#add-shot").await;
    click(&browser, ".shot [title='Remove']").await;
    let said = "return document.querySelector('.undo')?.textContent.includes('Example')";
    browser.until(said).await.unwrap();
    control(&browser, "a").await;
    control(&browser, "v").await;
    holds(&browser, "w1 *").await;
    let seen = "return document.querySelector('#composer .media img').naturalWidth > 0";
    browser.until(seen).await.unwrap();

    // Of another tab's pictures this one has the numbers alone.
    let paste = "const data = new DataTransfer();
        data.setData('application/x-plume-parts', JSON.stringify(arguments[0]));
        document.querySelector('#composer').dispatchEvent(
            new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));";
    let parts = json!([{"Media": 1}, {"Text": "w9"}, {"Media": 2}]);
    browser.script(paste, vec![parts]).await.unwrap();
    holds(&browser, "w1 *w9").await;
    let told = browser
        .until("return document.querySelector('#error')?.textContent")
        .await
        .unwrap();
    let told = told.as_str().unwrap();
    assert!(told.contains("2 pictures were left out"), "{told}");
}
