//! What the chat keeps in the browser: that it is kept, that it is told where it
//! is not, and that two tabs leave each other's words, in a real Chromium.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_tests::browser::{Browser, page, serve};
use plume_tests::chatting::{
    act, choose_task, click, open, put_sample, send, set, small, type_into, visit,
};
use serde_json::json;
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

const ERROR: &str = "return document.querySelector('#error')?.textContent";

/// Runs a script in every page before its own.
async fn before_all(browser: &Browser, script: &str) {
    let source = json!({ "source": script });
    let tools = browser.driver.cdp();
    tools
        .send_raw("Page.addScriptToEvaluateOnNewDocument", source)
        .await
        .unwrap();
}

/// Waits until a record of the chat's database holds these words.
async fn stored(browser: &Browser, words: &str) {
    let script = format!(
        "return (async () => {{
            const open = indexedDB.open('plume-chat');
            await new Promise(done => open.onsuccess = done);
            const all = open.result.transaction('records').objectStore('records').getAll();
            await new Promise(done => all.onsuccess = done);
            open.result.close();
            return all.result.some(one => String(one).includes({})); }})()",
        json!(words)
    );
    browser.until(&script).await.unwrap();
}

/// The words in the composer.
async fn draft(browser: &Browser, words: &str) {
    let script = format!(
        "return document.querySelector('#composer').textContent.trim() === {}",
        json!(words)
    );
    browser.until(&script).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_kept_is_told_once() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    before_all(
        &browser,
        "window.asked = 0;
         StorageManager.prototype.persist = async () => { window.asked++; return true; };",
    )
    .await;
    visit(&browser, &server.address()).await;
    let asked = async || browser.script("return window.asked", vec![]).await.unwrap();
    assert_eq!(asked().await, json!(0));
    choose_task(&browser, 4).await;
    type_into(&browser, "#composer", "kept").await;
    stored(&browser, "kept").await;
    // The first that is kept asks for it to stay; the others do not ask again.
    type_into(&browser, "#composer", " too").await;
    stored(&browser, "kept too").await;
    assert_eq!(asked().await, json!(1));

    let full = "IDBObjectStore.prototype.put = () => {
        throw new DOMException('no room', 'QuotaExceededError') }";
    act(&browser, full).await;
    type_into(&browser, "#composer", " and more").await;
    let told = browser.until(ERROR).await.unwrap();
    let told = told.as_str().unwrap();
    assert!(
        told.contains("no room") && told.contains("Export all"),
        "{told}"
    );
    act(&browser, "document.querySelector('#error button').click()").await;
    type_into(&browser, "#composer", " again").await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(browser.script(ERROR, vec![]).await.unwrap().is_null());
}

#[tokio::test]
async fn two_tabs_keep_both_of_what_they_hold() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    visit(&browser, &server.address()).await;
    choose_task(&browser, 4).await;
    type_into(&browser, "#composer", "one").await;
    stored(&browser, "one").await;
    let first = browser.driver.window().await.unwrap();
    let second = browser.driver.new_tab().await.unwrap();
    browser
        .driver
        .switch_to_window(second.clone())
        .await
        .unwrap();
    visit(&browser, &server.address()).await;
    draft(&browser, "one").await;
    type_into(&browser, "#composer", " two").await;
    stored(&browser, "one two").await;

    // The first tab goes on with what it has: both are kept, and it says so.
    browser
        .driver
        .switch_to_window(first.clone())
        .await
        .unwrap();
    type_into(&browser, "#composer", " three").await;
    let told = browser.until(ERROR).await.unwrap();
    assert!(told.as_str().unwrap().contains("another tab"), "{told}");
    stored(&browser, "one three").await;
    stored(&browser, "one two").await;
    // Its further words go where its own are.
    type_into(&browser, "#composer", " four").await;
    stored(&browser, "one three four").await;
    let rows = "return document.querySelectorAll('.conversation').length === 2";
    browser.until(rows).await.unwrap();

    // So it is for a new visit, which begins with what was changed last.
    browser.driver.goto("about:blank").await.unwrap();
    visit(&browser, &server.address()).await;
    draft(&browser, "one three four").await;
    act(
        &browser,
        "[...document.querySelectorAll('.conversation')]
            .find(row => !row.textContent.includes('this tab')).click()",
    )
    .await;
    draft(&browser, "one two").await;
}

/// The numbers of the pictures that are kept.
const PICTURES: &str = "(async () => {
    const open = indexedDB.open('plume-chat');
    await new Promise(done => open.onsuccess = done);
    const all = open.result.transaction('media').objectStore('media').getAllKeys();
    await new Promise(done => all.onsuccess = done);
    open.result.close();
    return all.result; })()";

#[tokio::test]
async fn a_picture_stays_while_another_tab_may_show_it() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    let switch = async |to: &thirtyfour::WindowHandle| {
        let to = to.clone();
        browser.driver.switch_to_window(to).await.unwrap();
    };
    let pictures = async || -> Vec<u32> {
        let keys = format!("return {PICTURES}");
        let keys = browser.script(&keys, vec![]).await.unwrap();
        serde_json::from_value(keys).unwrap()
    };
    let left = async |count: usize| {
        let there = format!("return {PICTURES}.then(all => all.length === {count})");
        browser.until(&there).await.unwrap();
    };
    let delete = "document.querySelector(\".conversations [title='Delete']\").click()";
    let shown = "return document.querySelector('#composer .media img')?.naturalWidth > 0";
    visit(&browser, &server.address()).await;
    choose_task(&browser, 4).await;
    put_sample(&browser, 1).await;
    type_into(&browser, "#composer", "one").await;
    stored(&browser, "one").await;
    let own = pictures().await;
    assert_eq!(own.len(), 1);
    // As if it had just been put in, and the words not yet kept.
    let orphan = "return (async () => {
        const open = indexedDB.open('plume-chat');
        await new Promise(done => open.onsuccess = done);
        const change = open.result.transaction('media', 'readwrite');
        change.objectStore('media').put(['orphan', [new Blob(['x'])]], 7);
        await new Promise(done => change.oncomplete = done);
        open.result.close(); })()";
    act(&browser, orphan).await;

    // Another tab reads what is kept, and then takes the conversation away.
    let first = browser.driver.window().await.unwrap();
    let second = browser.driver.new_tab().await.unwrap();
    switch(&second).await;
    visit(&browser, &server.address()).await;
    browser.until(shown).await.unwrap();
    assert!(pictures().await.contains(&7));
    act(&browser, delete).await;
    for undo in ["!== null", "=== null"] {
        let there = format!("return document.querySelector('#undo') {undo}");
        browser.until(&there).await.unwrap();
    }

    // The first one still has it, and goes on.
    switch(&first).await;
    type_into(&browser, "#composer", " two").await;
    stored(&browser, "one two").await;
    let third = browser.driver.new_tab().await.unwrap();
    for tab in [&first, &second] {
        switch(tab).await;
        browser.driver.close_window().await.unwrap();
    }
    // A page beside the chat sees when the tabs are gone.
    switch(&third).await;
    let beside = format!("{}precache.json", server.address());
    browser.driver.goto(beside).await.unwrap();
    let gone = "return navigator.locks.query().then(({ held }) => held.length === 0)";
    browser.until(gone).await.unwrap();

    // Who comes alone finds it, and deletes what nothing shows.
    visit(&browser, &server.address()).await;
    browser.until(shown).await.unwrap();
    left(1).await;
    assert_eq!(pictures().await, own);
    // So does it while it stays alone.
    act(&browser, delete).await;
    left(0).await;
}

#[tokio::test]
async fn conversations_have_titles_and_days() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &small("titles")).await;
    choose_task(&browser, 4).await;
    set(&browser, "#most", "3").await;
    type_into(&browser, "#composer", "w1 w2").await;
    send(&browser).await;
    let row = async |words: &str| {
        let script = format!(
            "return document.querySelector('.conversation')?.textContent === {}",
            json!(words)
        );
        browser.until(&script).await.unwrap();
    };
    row("w1 w21 turn · today").await;
    click(&browser, ".conversations [title='Rename']").await;
    let focused = "return document.activeElement?.className === 'conversation-name'";
    browser.until(focused).await.unwrap();
    type_into(&browser, ".conversation-name", "Numbers\n").await;
    row("Numbers1 turn · today").await;
    stored(&browser, "Numbers").await;

    // Another one, renamed while it is not on the page.
    click(&browser, "#new-conversation").await;
    type_into(&browser, "#composer", "w3").await;
    stored(&browser, "w3").await;
    click(&browser, ".conversations li:last-child [title='Rename']").await;
    browser.until(focused).await.unwrap();
    type_into(&browser, ".conversation-name", "Digits\n").await;
    let titles = "return [...document.querySelectorAll('.conversation span:first-child')]
        .map(one => one.textContent).join() === 'New conversation,Digits'";
    browser.until(titles).await.unwrap();
    visit(&browser, &server.address()).await;
    browser.until(titles).await.unwrap();
    act(
        &browser,
        "document.querySelectorAll('.conversation')[1].click()",
    )
    .await;
    browser
        .until("return document.querySelector('.turn .asked p')?.textContent === 'w1 w2'")
        .await
        .unwrap();
}
