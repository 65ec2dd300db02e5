//! What a person does with the chat beyond asking, in a real Chromium: dragging,
//! the camera, other ways of writing, changing what was said, files.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use plume_tests::browser::{Browser, CAMERA, page, sample, serve};
use plume_tests::chatting::{
    act, answer, choose_task, click, draw, generated, open, pictures_of, prompt_file, put_sample,
    reading, ready_made, record_clip, saved, send, set, small, type_into, visit,
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
    let browser = Browser::with(&CAMERA).await.unwrap();
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

#[tokio::test]
async fn examples_and_changed_turns_take_files_and_the_camera() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::with(&CAMERA).await.unwrap();
    open(&browser, &server.address(), &small("put-in")).await;
    // One example for each picture; what is answered is left to write.
    let two = [sample("red-house.png"), sample("orange-cat.png")];
    browser
        .choose_files("#shots-picture-input", &two)
        .await
        .unwrap();
    let labels = |field: &str| {
        format!(
            "[...document.querySelectorAll('{field} .media')]
                .map(one => one.getAttribute('aria-label')).join()"
        )
    };
    let is = async |field: &str, expected: &str| {
        let found = format!("return {} === '{expected}'", labels(field));
        browser.until(&found).await.unwrap();
    };
    is(".shot", "Picture: red-house.png,Picture: orange-cat.png").await;
    let answers = "return [...document.querySelectorAll('.shot-answer')].map(field => field.value)";
    assert_eq!(
        browser.script(answers, vec![]).await.unwrap(),
        json!(["", ""])
    );

    // A field takes files of its own, and what the camera sees.
    let first = ".shot:nth-child(1)";
    browser
        .choose_files(&format!("{first} [data-act='choose'] input"), &two[1..])
        .await
        .unwrap();
    is(first, "Picture: red-house.png,Picture: orange-cat.png").await;
    click(&browser, ".shot:nth-child(2) [data-act='camera']").await;
    let live = "return document.querySelector('#take-picture')?.disabled === false";
    browser.until(live).await.unwrap();
    act(&browser, "document.querySelector('#take-picture').click()").await;
    is(
        ".shot:nth-child(2)",
        "Picture: orange-cat.png,Picture: camera.png",
    )
    .await;

    // So does the field of a turn that is changed.
    set(&browser, "#most", "4").await;
    put_sample(&browser, 1).await;
    send(&browser).await;
    click(&browser, ".turn [data-act='edit']").await;
    browser
        .choose_files(".edit [data-act='choose'] input", &two[..1])
        .await
        .unwrap();
    browser
        .until("return document.querySelectorAll('.edit .editor .media').length === 2")
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_taken_away_or_replaced_comes_back() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &reading("undone", 256)).await;
    for (nth, answer) in [(1, "one"), (2, "two")] {
        click(&browser, "#add-shot").await;
        let field = format!(".shot:nth-child({nth}) .shot-answer");
        type_into(&browser, &field, answer).await;
    }
    let answers = async |expected: &str| {
        let found = format!(
            "return [...document.querySelectorAll('.shot-answer')]
                .map(field => field.value).join() === '{expected}'"
        );
        browser.until(&found).await.unwrap();
    };
    let shots = async |count: usize| {
        let found = format!("return document.querySelectorAll('.shot').length === {count}");
        browser.until(&found).await.unwrap();
    };
    let back = async || {
        let there = "return document.querySelector('#undo') !== null";
        browser.until(there).await.unwrap();
        act(&browser, "document.querySelector('#undo').click()").await;
        let gone = "return document.querySelector('#undo') === null";
        browser.until(gone).await.unwrap();
    };

    // An example, by the button and by keys outside of a field.
    click(&browser, ".shot:nth-child(1) [title='Remove']").await;
    answers("two").await;
    back().await;
    answers("one,two").await;
    click(&browser, ".shot:nth-child(2) [title='Remove']").await;
    answers("one").await;
    let keys = "document.body.dispatchEvent(
        new KeyboardEvent('keydown', { key: 'z', ctrlKey: true, bubbles: true, cancelable: true }))";
    act(&browser, keys).await;
    answers("one,two").await;

    // A set comes beside what is there or in its place, as the person says.
    let counting = "document.querySelector('.ready-made [data-set=\"Counting\"]')";
    browser.until(&format!("return {counting}")).await.unwrap();
    let asked = "return document.activeElement?.dataset.act === 'add'";
    act(&browser, &format!("{counting}.click()")).await;
    browser.until(asked).await.unwrap();
    shots(2).await;
    act(
        &browser,
        "document.querySelector('[data-act=\"leave\"]').click()",
    )
    .await;
    shots(2).await;
    act(&browser, &format!("{counting}.click()")).await;
    browser.until(asked).await.unwrap();
    act(&browser, "document.activeElement.click()").await;
    shots(6).await;
    act(&browser, &format!("{counting}.click()")).await;
    browser.until(asked).await.unwrap();
    act(
        &browser,
        "document.querySelector('.set-asked [data-act=\"replace\"]').click()",
    )
    .await;
    shots(4).await;
    back().await;
    shots(6).await;

    // A turn, and a conversation with its pictures.
    act(
        &browser,
        "document.querySelectorAll('.shot-on input').forEach(box => box.click())",
    )
    .await;
    set(&browser, "#most", "4").await;
    let said = send(&browser).await;
    let turns = async |count: usize| {
        let found = format!("return document.querySelectorAll('.turn').length === {count}");
        browser.until(&found).await.unwrap();
    };
    click(&browser, ".turn [data-act='delete']").await;
    turns(0).await;
    back().await;
    turns(1).await;
    assert_eq!(answer(&browser).await, said);
    click(&browser, ".conversations [title='Delete']").await;
    turns(0).await;
    shots(0).await;
    back().await;
    turns(1).await;
    shots(6).await;
    let seen = "const all = [...document.querySelectorAll('.turn .shown img')];
        return all.length === 1 && all.every(one => one.naturalWidth > 0)";
    browser.until(seen).await.unwrap();
}

#[tokio::test]
async fn files_go_where_they_belong_wherever_they_are_dropped() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &small("dropped")).await;
    let [house, cat] =
        ["red-house.png", "orange-cat.png"].map(|name| std::fs::read(sample(name)).unwrap());
    let (house, cat) = (("red-house.png", &house[..]), ("orange-cat.png", &cat[..]));
    let shots = async |expected: &str| {
        let found = format!(
            "return [...document.querySelectorAll('.shot')].map(shot =>
                shot.querySelectorAll('.media').length + shot.querySelector('.shot-answer').value)
                .join() === '{expected}'"
        );
        browser.until(&found).await.unwrap();
    };
    let told = async |words: &[&str]| {
        let said = "return document.querySelector('#error')?.textContent";
        let said = browser.until(said).await.unwrap();
        for word in words {
            assert!(
                said.as_str().unwrap().contains(word),
                "no “{word}” in: {said}"
            );
        }
        act(&browser, "document.querySelector('#error button').click()").await;
    };

    // A table with its pictures makes examples, on the composer too.
    let table = b"picture,question,answer\nred-house.png,what?,a house\norange-cat.png,,a cat\n";
    let table = ("list.csv", &table[..]);
    browser.drop_files(&[table, house, cat]).await.unwrap();
    shots("1a house,1a cat").await;
    browser
        .drop_files_on("#composer", &[table, house, cat])
        .await
        .unwrap();
    shots("1a house,1a cat,1a house,1a cat").await;

    // Of a folder's notes one message tells.
    let notes = [".DS_Store", "notes.txt", "about.md"].map(|name| (name, &b"words"[..]));
    let folder = [&notes[..], &[cat]].concat();
    browser.drop_files_on(".shots", &folder).await.unwrap();
    shots("1a house,1a cat,1a house,1a cat,1orange cat").await;
    told(&["3 files", "left out", "notes.txt"]).await;
    browser.drop_files(&folder).await.unwrap();
    let in_composer = "return document.querySelectorAll('#composer .media').length === 1";
    browser.until(in_composer).await.unwrap();
    told(&["3 files", "left out", "about.md"]).await;

    // What was exported comes in, also on the panel of the examples.
    let file = saved(&browser, "#export-chat").await;
    browser
        .drop_files_on(".shots", &[("all.plume.json", file.as_bytes())])
        .await
        .unwrap();
    let both = "return document.querySelectorAll('.conversation').length === 2";
    browser.until(both).await.unwrap();
    browser
        .drop_files(&[("other.json", b"{\"a\": 1}")])
        .await
        .unwrap();
    told(&["other.json", "no file that was exported here"]).await;

    // Models in other forms: what to do about them.
    for name in ["checkpoint.pt", "pytorch_model.bin", "model.safetensors"] {
        browser
            .drop_files_on(".shots", &[(name, b"PK")])
            .await
            .unwrap();
        told(&[name, "plume pack"]).await;
    }
}

#[tokio::test]
async fn a_clip_that_stands_in_a_field_takes_other_frames() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    visit(&browser, &server.address()).await;
    set(&browser, "#frame-rate", "4").await;
    set(&browser, "#frame-count", "3").await;
    record_clip(&browser).await;
    let clip = async |frames: usize| {
        let found = format!(
            "return document.querySelector('#composer .media')?.getAttribute('aria-label')
                === 'Clip of {frames} frames: clip.webm'"
        );
        browser.until(&found).await.unwrap();
    };
    let take = async |rate: &str, most: &str| {
        let open = "document.querySelector('#composer .frame-count').click()";
        act(&browser, open).await;
        let there = "return document.activeElement?.dataset.of === 'rate'";
        browser.until(there).await.unwrap();
        set(&browser, ".sample-clip [data-of='rate']", rate).await;
        set(&browser, ".sample-clip [data-of='most']", most).await;
        click(&browser, ".sample-clip [data-act='sample']").await;
    };
    clip(3).await;
    take("8", "5").await;
    clip(5).await;
    // Its file is kept with it.
    let kept = "return (async () => {
        const open = indexedDB.open('plume-chat');
        await new Promise(done => open.onsuccess = done);
        const all = open.result.transaction('records').objectStore('records').getAll();
        await new Promise(done => all.onsuccess = done);
        open.result.close();
        const media = document.querySelector('#composer .media').dataset.media;
        return all.result.some(one => String(one).includes(`\"Media\":${media}`)); })()";
    browser.until(kept).await.unwrap();
    browser.driver.goto("about:blank").await.unwrap();
    visit(&browser, &server.address()).await;
    clip(5).await;
    take("8", "2").await;
    clip(2).await;
}

#[tokio::test]
async fn a_field_copies_pictures_and_says_why_it_does_not_send() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &reading("copied", 4096)).await;
    choose_task(&browser, 4).await;
    type_into(&browser, "#composer", "w1 ").await;
    put_sample(&browser, 1).await;
    type_into(&browser, "#composer", "w2").await;
    let order = "[...document.querySelector(field).childNodes].map(node =>
        node.dataset?.media ? '*' : node.textContent.replaceAll('\u{200b}', '')).join('').trim()";
    let order = async |field: &str, expected: &str| {
        let found = format!("const field = '{field}'; return {order} === '{expected}'");
        browser.until(&found).await.unwrap();
    };
    order("#composer", "w1 *w2").await;

    // All of it into an example, by the keys.
    let keys = async |field: &str, keys: &str| {
        let field = browser.driver.find(By::Css(field)).await.unwrap();
        field
            .send_keys(thirtyfour::Key::Control + keys)
            .await
            .unwrap();
    };
    click(&browser, "#add-shot").await;
    keys("#composer", "a").await;
    keys("#composer", "c").await;
    keys(".shot .editor", "v").await;
    order(".shot .editor", "w1 *w2").await;
    order("#composer", "w1 *w2").await;
    // Cut, it is gone, and comes back where it is pasted.
    keys("#composer", "a").await;
    keys("#composer", "x").await;
    order("#composer", "").await;
    keys("#composer", "v").await;
    order("#composer", "w1 *w2").await;

    // Enter while an answer is written says why nothing is sent.
    set(&browser, "#most", "2000").await;
    click(&browser, "#send").await;
    let begun = "return document.querySelector('.turn .answer')?.dataset.answer";
    browser.until(begun).await.unwrap();
    type_into(&browser, "#composer", "w3\n").await;
    let said = "return document.querySelector('#still-writing')?.textContent.includes('Stop')";
    browser.until(said).await.unwrap();
    order("#composer", "w3").await;
    click(&browser, "#stop").await;
    answer(&browser).await;
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
    let seeded = async |seed: u32| {
        set(&browser, "#seed", &seed.to_string()).await;
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
