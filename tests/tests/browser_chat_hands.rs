//! What a person does with the chat beyond asking, in a real Chromium: dragging,
//! the camera, other ways of writing, changing what was said, files.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_tests::browser::{Browser, page, serve};
use plume_tests::chatting::{
    act, answer, choose_task, click, draw, generated, open, pictures_of, prompt_file, put_sample,
    reading, ready_made, saved, send, set, small, type_into,
};
use serde_json::{Value, json};
use thirtyfour::By;
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

/// Drags from one element to another with the pointer; `aside` is from the
/// middle of the second.
async fn drag(browser: &Browser, from: &str, to: &str, aside: (i64, i64)) {
    let from = browser.driver.find(By::Css(from)).await.unwrap();
    let to = browser.driver.find(By::Css(to)).await.unwrap();
    from.scroll_into_view().await.unwrap();
    browser
        .driver
        .action_chain()
        .move_to_element_center(&from)
        .click_and_hold()
        .move_by_offset(6, 6)
        .move_to_element_with_offset(&to, aside.0, aside.1)
        .move_by_offset(1, 0)
        .release()
        .perform()
        .await
        .unwrap();
}

#[tokio::test]
async fn examples_and_pictures_are_dragged_to_other_places() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &reading("dragged", 256)).await;
    for (nth, answer) in [(1, "one"), (2, "two"), (3, "three")] {
        click(&browser, "#add-shot").await;
        type_into(
            &browser,
            &format!(".shot:nth-child({nth}) .shot-answer"),
            answer,
        )
        .await;
    }
    drag(
        &browser,
        ".shot:nth-child(3) .grip",
        ".shot:nth-child(1)",
        (0, 0),
    )
    .await;
    let answers = "[...document.querySelectorAll('.shot-answer')].map(field => field.value)";
    let moved = format!("return {answers}.join() === 'three,one,two'");
    browser.until(&moved).await.unwrap();

    // A picture to the front of the words.
    choose_task(&browser, 4).await;
    type_into(&browser, "#composer", "w1 w2 ").await;
    put_sample(&browser, 1).await;
    let order = "[...document.querySelector('#composer').childNodes].map(node =>
        node.dataset?.media ? '*' : node.textContent.replaceAll('\u{200b}', '')).join('').trim()";
    let behind = format!("return {order} === 'w1 w2 *'");
    browser.until(&behind).await.unwrap();
    let width = "return document.querySelector('#composer').getBoundingClientRect().width";
    let width = browser.script(width, vec![]).await.unwrap();
    let left = -(width.as_f64().unwrap() / 2.0) as i64 + 8;
    drag(&browser, "#composer .media", "#composer", (left, 0)).await;
    let front = format!("return {order} === '*w1 w2'");
    browser.until(&front).await.unwrap();
}

#[tokio::test]
async fn camera_and_pad_give_pictures_to_the_prompt() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let camera = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ];
    let browser = Browser::with(&camera).await.unwrap();
    open(&browser, &server.address(), &small("camera")).await;
    click(&browser, "#chat-camera").await;
    browser
        .until(
            "const video = document.querySelector('dialog.camera video');
             window.track = video?.srcObject?.getTracks()[0];
             return video?.videoWidth > 0 && !document.querySelector('#take-picture').disabled",
        )
        .await
        .unwrap();
    act(&browser, "document.querySelector('#take-picture').click()").await;
    let there = "return document.querySelector('#composer .media')?.getAttribute('aria-label')";
    assert_eq!(browser.until(there).await.unwrap(), "Picture: camera.png");
    browser
        .until("return window.track.readyState === 'ended'")
        .await
        .unwrap();
    click(&browser, "#chat-draw").await;
    draw(&browser).await;
    let both = "return [...document.querySelectorAll('#composer .media')]
        .map(one => one.getAttribute('aria-label')).join() === 'Picture: camera.png,Picture: drawing.png'";
    browser.until(both).await.unwrap();
    set(&browser, "#most", "4").await;
    assert!(!send(&browser).await.is_empty());
}

/// Answers the first turn once more.
async fn again(browser: &Browser) -> String {
    click(browser, ".turn [data-act='again']").await;
    answer(browser).await
}

#[tokio::test]
async fn words_are_chosen_as_the_settings_say() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    let model = small("settings");
    open(&browser, &server.address(), &model).await;
    ready_made(&browser, "Counting", 4).await;
    set(&browser, "#most", "10").await;
    let six = "return document.querySelector('#raw-prompt').textContent.split('<image>').length";
    browser.until(&format!("{six} === 6")).await.unwrap();
    let prompt = prompt_file(&browser, &pictures_of("Counting"), &model).await;
    let command = |options: &[&str]| {
        let options = [options, &["--max-new-tokens", "10"]].concat();
        generated(&model, &prompt, &options)
    };

    set(&browser, "#choice", "beams").await;
    set(&browser, "#beams", "4").await;
    let beams = send(&browser).await;
    assert_eq!(beams, command(&["--beams", "4"]));

    // The same seed gives the same words, here and there; another one others.
    set(&browser, "#choice", "sample").await;
    set(&browser, "#temperature", "1.5").await;
    set(&browser, "#top-k", "20").await;
    set(&browser, "#top-p", "0.9").await;
    // To answer once more takes the next seed.
    let seeded = async |seed: u32| {
        set(&browser, "#seed", &(seed - 1).to_string()).await;
        again(&browser).await
    };
    let first = seeded(7).await;
    let other = seeded(8).await;
    assert_ne!(first, other);
    assert_eq!(seeded(7).await, first);
    let how = ["--temperature", "1.5", "--top-k", "20", "--top-p", "0.9"];
    assert_eq!(first, command(&[&how[..], &["--seed", "7"]].concat()));

    // A string that ends the answer, and words that come back less.
    set(&browser, "#choice", "greedy").await;
    let plain = again(&browser).await;
    let words: Vec<&str> = plain.split(' ').collect();
    set(&browser, "#stop-strings", words[3]).await;
    let cut = again(&browser).await;
    assert!(plain.starts_with(&cut) && cut.len() < plain.len(), "{cut}");
    set(&browser, "#stop-strings", "").await;
    set(&browser, "#repetition", "1.7").await;
    let penalised = again(&browser).await;
    let expected = command(&["--greedy", "--repetition-penalty", "1.7"]);
    assert_eq!(penalised, expected);
}

#[tokio::test]
async fn what_was_said_is_changed_copied_and_goes_out_and_in_as_a_file() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    let model = reading("changed", 256);
    open(&browser, &server.address(), &model).await;
    let permissions = json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
    let tools = browser.driver.cdp();
    tools
        .send_raw("Browser.grantPermissions", permissions)
        .await
        .unwrap();
    choose_task(&browser, 4).await;
    set(&browser, "#most", "5").await;
    for (nth, words) in [(1, " w1"), (2, " w2")] {
        put_sample(&browser, nth).await;
        type_into(&browser, "#composer", words).await;
        send(&browser).await;
    }
    let said =
        "return [...document.querySelectorAll('.turn .answer')].map(one => one.dataset.answer)";
    let before = browser.script(said, vec![]).await.unwrap();

    click(&browser, ".turn [data-act='copy']").await;
    let clipboard = "window.copied = null;
        navigator.clipboard.readText().then(text => window.copied = text)";
    browser
        .until("return document.querySelector('.turn [data-act=\"copy\"]').textContent.includes('Copied')")
        .await
        .unwrap();
    act(&browser, clipboard).await;
    let copied = browser.until("return window.copied").await.unwrap();
    assert_eq!(copied, before[0]);

    // The first turn is asked otherwise; what came after it is kept apart.
    click(&browser, ".turn [data-act='edit']").await;
    type_into(&browser, ".edit .editor", " w3").await;
    click(&browser, ".edit [data-act='ask-again']").await;
    answer(&browser).await;
    let prompt = "return document.querySelector('.turn .asked p').textContent";
    assert_eq!(browser.script(prompt, vec![]).await.unwrap(), " w1 w3");
    let turns = "return document.querySelectorAll('.turn').length";
    assert_eq!(browser.script(turns, vec![]).await.unwrap(), 1);
    let kept = "return [...document.querySelectorAll('.conversation')].map(row => row.textContent)";
    let kept = browser.until(kept).await.unwrap().to_string();
    assert!(kept.contains("(before the change)2 turns"), "{kept}");
    // It goes on from there.
    type_into(&browser, "#composer", "w4").await;
    send(&browser).await;
    let after = browser.script(said, vec![]).await.unwrap();
    assert_eq!(after.as_array().unwrap().len(), 2);

    // All of it out as a file, away, and in again.
    let file = saved(&browser, "#export-chat").await;
    let bundle: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(bundle["conversations"].as_array().unwrap().len(), 2);
    let path = model.join("all.json");
    std::fs::write(&path, file).unwrap();
    for left in [1, 0] {
        click(&browser, ".conversations [title='Delete']").await;
        let gone = format!("return document.querySelectorAll('.conversation').length === {left}");
        browser.until(&gone).await.unwrap();
    }
    assert_eq!(browser.script(turns, vec![]).await.unwrap(), 0);
    browser.choose_files("#import-chat", &[path]).await.unwrap();
    let both = "return document.querySelectorAll('.conversation').length === 2";
    browser.until(both).await.unwrap();
    let open = "[...document.querySelectorAll('.conversation')]
        .find(row => !row.textContent.includes('before')).click()";
    act(&browser, open).await;
    let found = format!(
        "{} === {}",
        said.replacen("return ", "return JSON.stringify(", 1) + ")",
        json!(after.to_string())
    );
    browser.until(&found).await.unwrap();
    browser
        .until(
            "const all = [...document.querySelectorAll('.turn .shown img')];
             return all.length === 1 && all.every(one => one.naturalWidth > 0)",
        )
        .await
        .unwrap();
}
