//! The chat, in a real Chromium, by the steps of a person.

use plume_tests::browser::{Browser, page, sample, serve};
use plume_tests::chatting::{
    NAME, act, answer, choose_task, click, draw, generated, open, pictures_of, prompt_file,
    put_sample, reading, ready_made, record_clip, saved, send, set, small, type_into,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// One browser at a time: two cores are soon busy.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn shots_are_answered_as_on_the_command_line_on_both_devices() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    let model = small("both");
    open(&browser, &server.address(), &model).await;
    ready_made(&browser, "Counting", 4).await;
    set(&browser, "#most", "12").await;
    let pictures = pictures_of("Counting");
    browser
        .until("return document.querySelector('#raw-prompt').textContent.split('<image>').length === 6")
        .await
        .unwrap();
    let prompt = prompt_file(&browser, &pictures, &model).await;
    let expected = generated(&model, &prompt, &["--greedy", "--max-new-tokens", "12"]);
    assert!(!expected.is_empty());
    assert_eq!(send(&browser).await, expected);
    let figures = "return document.querySelector('.turn .timings').textContent";
    let figures = browser.script(figures, vec![]).await.unwrap();
    let figures = figures.as_str().unwrap();
    assert!(
        figures.contains("first word after") && figures.contains("12 written"),
        "{figures}"
    );

    // A link keeps the job, and the other one goes on as it was.
    let device = browser.choose_device("gpu").await.unwrap();
    assert!(device.contains("WebGPU"), "{device}");
    click(&browser, ".turn [data-act='again']").await;
    assert_eq!(answer(&browser).await, expected);
    click(&browser, "#job-classify").await;
    // The address changes first, the page after it.
    browser
        .until("return document.querySelector('#device-badge').dataset.kind === 'cpu'")
        .await
        .unwrap();
    let hash = "return location.hash";
    let hash = browser.script(hash, vec![]).await.unwrap();
    assert!(hash.as_str().unwrap().starts_with("#labels="), "{hash}");
    act(&browser, "document.querySelector('.sample').click()").await;
    assert_eq!(browser.scores("orange-cat.png").await.unwrap().len(), 8);
    act(&browser, "history.back()").await;
    browser
        .until("return !document.querySelector('main.chat').hidden")
        .await
        .unwrap();
    let gates = "document.querySelector('.turn .inside summary').click()";
    act(&browser, gates).await;
    // A word looked somewhere: what it looked at sums to one over the cells.
    browser
        .until("return document.querySelectorAll('.turn .heat i').length >= 4")
        .await
        .unwrap();
    let rows = browser
        .script(
            "return document.querySelectorAll('.gates tbody tr').length",
            vec![],
        )
        .await
        .unwrap();
    assert_eq!(rows, 1, "one gated layer");
}

#[tokio::test]
async fn words_and_pictures_interleave_and_move() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &small("moves")).await;
    choose_task(&browser, 4).await;
    let order = "return [...document.querySelector('#composer').childNodes].map(node =>
        node.dataset?.media ? '*' : node.textContent.replaceAll('\u{200b}', '')).join('')";

    // Typed, put in at the caret, and typed behind it.
    click(&browser, "#composer").await;
    type_into(&browser, "#composer", "w1 w2 ").await;
    let cat = sample("orange-cat.png").canonicalize().unwrap();
    browser
        .choose_files("#chat-file-input", &[cat])
        .await
        .unwrap();
    browser
        .until("return document.querySelectorAll('#composer .media').length === 1")
        .await
        .unwrap();
    type_into(&browser, "#composer", " w3").await;
    assert_eq!(browser.script(order, vec![]).await.unwrap(), "w1 w2 * w3");

    // Pasted.
    let house = std::fs::read(sample("red-house.png")).unwrap();
    let paste = "const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(arguments[0])], 'house.png', { type: 'image/png' }));
        document.querySelector('#composer').dispatchEvent(
            new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));";
    browser.script(paste, vec![json!(house)]).await.unwrap();
    browser
        .until("return document.querySelectorAll('#composer .media').length === 2")
        .await
        .unwrap();
    assert_eq!(browser.script(order, vec![]).await.unwrap(), "w1 w2 * w3*");

    // Moved by the keyboard, and taken out.
    act(
        &browser,
        "document.querySelectorAll('#composer .media')[1].focus()",
    )
    .await;
    let alt = |key: &str| {
        format!(
            "document.activeElement.dispatchEvent(new KeyboardEvent('keydown',
        {{ key: '{key}', altKey: true, bubbles: true, cancelable: true }}))"
        )
    };
    act(&browser, &alt("ArrowLeft")).await;
    act(&browser, &alt("ArrowLeft")).await;
    assert_eq!(browser.script(order, vec![]).await.unwrap(), "w1 w2 ** w3");
    let raw =
        "return document.querySelector('#raw-prompt').textContent === 'w1 w2 <image><image> w3'";
    browser.until(raw).await.unwrap();
    act(
        &browser,
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown',
        { key: 'Delete', bubbles: true, cancelable: true }))",
    )
    .await;
    assert_eq!(browser.script(order, vec![]).await.unwrap(), "w1 w2 * w3");
}

#[tokio::test]
async fn a_conversation_is_taught_stopped_changed_compared_and_found_again() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    let address = server.address();
    let model = reading("found", 4096);
    open(&browser, &address, &model).await;

    // An example, drawn.
    click(&browser, "#add-shot").await;
    click(&browser, ".shot [data-act='draw']").await;
    draw(&browser).await;
    browser
        .until("return document.querySelector('.shot .media') !== null")
        .await
        .unwrap();
    type_into(&browser, ".shot-answer", "w7 w8").await;
    // And a second one like it, switched off.
    click(&browser, ".shot [title='Duplicate']").await;
    // `2 of 2 in use · 8 tokens · 1 kB`, and `4 tokens · 512 B` on each card.
    let costs = |second: &str, in_use: &str, times: u32| {
        format!(
            "const cost = at => document.querySelectorAll('.shot .timings')[at]?.textContent;
             const tokens = parseInt(cost(0)), total = document.querySelector('#shots-total');
             return tokens > 0 && cost(1) === '{second}' + cost(0)
                && total.textContent.startsWith(`{in_use} in use · ${{{times} * tokens}} tokens · `)"
        )
    };
    browser.until(&costs("", "2 of 2", 2)).await.unwrap();
    click(&browser, ".shot:nth-child(2) input[type='checkbox']").await;
    let off = costs("would take ", "1 of 2", 1);
    browser.until(&off).await.unwrap();

    // Stopped at once: the model would write on and on.
    set(&browser, "#most", "1500").await;
    put_sample(&browser, 1).await;
    let stop = "new MutationObserver((_, observer) => {
            const stop = document.querySelector('#stop');
            const said = document.querySelector('.turn .answer')?.dataset.answer;
            if (stop && said) { stop.click(); observer.disconnect(); }
        }).observe(document.body, { childList: true, subtree: true, attributes: true, characterData: true });";
    act(&browser, stop).await;
    let stopped = send(&browser).await;
    let words = stopped.split_whitespace().count();
    assert!((1..1500).contains(&words), "{stopped}");
    browser
        .until("return document.querySelector('.turn .timings').textContent.includes('stopped')")
        .await
        .unwrap();
    set(&browser, "#most", "20").await;
    click(&browser, ".turn [data-act='go-on']").await;
    let whole = answer(&browser).await;
    assert!(
        whole.starts_with(&stopped) && whole.len() > stopped.len(),
        "{whole}"
    );

    // Changed, and answered again from there.
    click(&browser, ".turn [data-act='edit']").await;
    set(&browser, ".edit textarea", "w1 w2").await;
    click(&browser, ".edit [data-act='save']").await;
    let said = "return document.querySelector('.turn .answer').dataset.answer";
    assert_eq!(browser.until(said).await.unwrap(), "w1 w2");

    // Answers compared, as on the command line.
    act(
        &browser,
        "document.querySelector('#modes button:nth-child(2)').click()",
    )
    .await;
    set(&browser, "#choices-input", "w3\nw4 w5\nw6").await;
    put_sample(&browser, 2).await;
    let likeliest = send(&browser).await;
    let rows = "return [...document.querySelectorAll('.turn:last-child .likely')].map(bar => [bar.dataset.answer, +bar.dataset.value])";
    let rows: Vec<(String, f32)> =
        serde_json::from_value(browser.until(rows).await.unwrap()).unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0].0, likeliest);
    assert!(
        rows.windows(2).all(|pair| pair[0].1 >= pair[1].1),
        "{rows:?}"
    );

    // A set under a name; then everything is found after a reload, without a
    // network.
    act(&browser, "document.querySelector('#sets').open = true").await;
    type_into(&browser, "#set-name", "my houses\n").await;
    browser
        .until("return document.querySelector('[data-set=\"my houses\"]') !== null")
        .await
        .unwrap();
    type_into(&browser, "#composer", "w9").await;
    browser
        .until("return navigator.serviceWorker.controller !== null")
        .await
        .unwrap();
    // What was typed last is kept a moment later.
    let kept = "return (async () => {
        const asked = request => new Promise((done, failed) => {
            request.onsuccess = () => done(request.result); request.onerror = failed; });
        const database = await asked(indexedDB.open('plume-chat'));
        const records = database.transaction('records').objectStore('records');
        const all = await asked(records.getAll());
        database.close();
        return all.some(record => JSON.parse(record).draft?.[0]?.Text === 'w9'); })()";
    browser.until(kept).await.unwrap();
    drop(server);
    browser.driver.goto("about:blank").await.unwrap();
    browser
        .driver
        .goto(format!("{address}#chat"))
        .await
        .unwrap();
    browser
        .until("return document.querySelectorAll('.turn').length === 2")
        .await
        .unwrap();
    let found = "return [
        document.querySelectorAll('.shot .media img').length,
        document.querySelector('.shot-answer').value,
        document.querySelector('.turn .answer').dataset.answer,
        document.querySelectorAll('.turn .shown img').length,
        document.querySelectorAll('.turn .likely').length,
        document.querySelector('#composer').textContent,
        document.querySelector('[data-set=\"my houses\"]') !== null,
        document.querySelector('#modes [aria-pressed=\"true\"]').textContent,
    ]";
    assert_eq!(
        browser.until(found).await.unwrap(),
        json!([2, "w7 w8", "w1 w2", 2, 3, "w9", true, "Compare"])
    );
    let pictures = "return [...document.querySelectorAll('.turn .shown img')].every(i => i.complete && i.naturalWidth > 0)";
    browser.until(pictures).await.unwrap();
}

#[tokio::test]
async fn what_goes_wrong_is_told_and_nothing_is_lost() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    let model = small("wrong");
    open(&browser, &server.address(), &model).await;

    // Nothing to send.
    click(&browser, "#send").await;
    let error = "return document.querySelector('#error')?.textContent";
    let message = browser.until(error).await.unwrap();
    assert!(
        message.as_str().unwrap().contains("Put a picture in"),
        "{message}"
    );
    act(&browser, "document.querySelector('#error button').click()").await;

    // Longer than the model can read: what will be left out is told before.
    set(&browser, "#most", "8").await;
    ready_made(&browser, "Made-up kinds", 8).await;
    for _ in 0..2 {
        act(
            &browser,
            "document.querySelectorAll('.shot [title=\"Duplicate\"]').forEach(b => b.click())",
        )
        .await;
    }
    let cut = browser
        .until("return document.querySelector('#cut').textContent")
        .await
        .unwrap();
    assert!(cut.as_str().unwrap().contains("will be left out"), "{cut}");
    let kept = send(&browser).await;
    assert!(!kept.is_empty());

    // This alone is too long.
    choose_task(&browser, 4).await;
    type_into(&browser, "#composer", &"w1 ".repeat(70)).await;
    browser
        .until("return document.querySelector('#cut').textContent.includes('This alone is longer')")
        .await
        .unwrap();
    click(&browser, "#send").await;
    browser
        .until("return document.querySelector('.turn:last-child .failed')?.textContent.includes('shorten it')")
        .await
        .unwrap();
    click(&browser, ".turn:last-child [data-act='delete']").await;

    // A model of another kind: the one before is back.
    let bad: [(&str, &[u8]); 3] = [
        ("bad.safetensors", &[0; 9]),
        ("config.json", b"{\"model_type\": \"bert\"}"),
        ("tokenizer.json", b"{}"),
    ];
    browser.drop_files(&bad).await.unwrap();
    browser.until(error).await.unwrap();
    browser.device().await.unwrap();
    assert_eq!(browser.until(NAME).await.unwrap(), "model.safetensors");
    act(&browser, "document.querySelector('#error button')?.click()").await;
}

#[tokio::test]
async fn examples_come_from_folders_and_tables_and_go_out_as_a_file() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    let model = small("fill");
    open(&browser, &server.address(), &model).await;

    // Folders name their pictures.
    let folder = model.join("kinds");
    for (kind, name) in [("dako", "red-house.png"), ("wefi", "blue-fish.png")] {
        std::fs::create_dir_all(folder.join(kind)).unwrap();
        std::fs::copy(sample(name), folder.join(kind).join(name)).unwrap();
    }
    browser
        .choose_files("#shots-folder-input", std::slice::from_ref(&folder))
        .await
        .unwrap();
    let answers = "return [...document.querySelectorAll('.shot-answer')].map(field => field.value)";
    browser
        .until("return document.querySelectorAll('.shot .media').length === 2")
        .await
        .unwrap();
    assert_eq!(
        browser.script(answers, vec![]).await.unwrap(),
        json!(["dako", "wefi"])
    );

    // A table says what is asked; what it lacks is told.
    let table = model.join("table.csv");
    let rows = "picture,question,answer\nred-house.png,\"what, then?\",w3\nnone.png,,w4\n";
    std::fs::write(&table, rows).unwrap();
    let picture = folder.join("dako/red-house.png");
    choose_task(&browser, 2).await;
    browser
        .choose_files("#shots-csv-input", &[table, picture])
        .await
        .unwrap();
    let error = "return document.querySelector('#error')?.textContent";
    let message = browser.until(error).await.unwrap();
    assert!(message.as_str().unwrap().contains("none.png"), "{message}");
    browser
        .until("return document.querySelectorAll('.shot .media').length === 3")
        .await
        .unwrap();
    let raw = "return document.querySelector('#raw-prompt').textContent
        .includes('<image>Question:what, then? Short answer:w3<|endofchunk|>')";
    browser.until(raw).await.unwrap();

    // The last is moved to the front by its keys.
    act(&browser, "document.querySelectorAll('.grip')[2].focus()").await;
    for place in [1, 0] {
        act(
            &browser,
            "document.activeElement.dispatchEvent(new KeyboardEvent('keydown',
            { key: 'ArrowUp', altKey: true, bubbles: true, cancelable: true }))",
        )
        .await;
        let there = format!(
            "return document.activeElement === document.querySelectorAll('.grip')[{place}]
                && document.querySelectorAll('.shot-answer')[{place}].value === 'w3'"
        );
        browser.until(&there).await.unwrap();
    }
    assert_eq!(
        browser.script(answers, vec![]).await.unwrap(),
        json!(["w3", "dako", "wefi"])
    );

    // Similar ones are chosen by CLIP; the house is the most similar to itself.
    set(&browser, "#similar", "2").await;
    let house = std::fs::read(sample("red-house.png")).unwrap();
    browser.drop_files(&[("house.png", &house)]).await.unwrap();
    let last =
        "return [...document.querySelectorAll('.similarity.chosen')].map(one => one.textContent)";
    browser
        .until("return document.querySelectorAll('.similarity.chosen').length === 2")
        .await
        .unwrap();
    let chosen = browser.script(last, vec![]).await.unwrap().to_string();
    assert!(
        chosen.contains("most similar, so last · cosine 1.000"),
        "{chosen}"
    );
    let left = "return document.querySelector('.shot.off .timings')?.textContent ?? ''";
    let left = browser.script(left, vec![]).await.unwrap().to_string();
    assert!(
        left.contains("would take") && left.contains("not chosen"),
        "{left}"
    );

    // Out as a file, and in again.
    act(&browser, "document.querySelector('#sets').open = true").await;
    type_into(&browser, "#set-name", "three\n").await;
    browser
        .until("return document.querySelector('[data-set=\"three\"] [data-act=\"share\"]')")
        .await
        .unwrap();
    let file = saved(&browser, "[data-set='three'] [data-act='share']").await;
    let bundle: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(bundle["sets"][0]["shots"].as_array().unwrap().len(), 3);
    let path = model.join("three.plume.json");
    std::fs::write(&path, file).unwrap();
    act(
        &browser,
        "document.querySelectorAll('.shot [title=\"Remove\"]').forEach(b => b.click())",
    )
    .await;
    act(
        &browser,
        "document.querySelector('[data-set=\"three\"] .remove').click()",
    )
    .await;
    browser
        .choose_files("#set-file-input", &[path])
        .await
        .unwrap();
    browser
        .until("return document.querySelector('[data-set=\"three\"] [data-act=\"load\"]')")
        .await
        .unwrap();
    act(
        &browser,
        "document.querySelector('[data-set=\"three\"] [data-act=\"load\"]').click()",
    )
    .await;
    browser
        .until("return [...document.querySelectorAll('.shot .media img')].filter(i => i.naturalWidth > 0).length === 3")
        .await
        .unwrap();
    assert_eq!(
        browser.script(answers, vec![]).await.unwrap(),
        json!(["w3", "dako", "wefi"])
    );
}

#[tokio::test]
async fn a_clip_is_one_piece_of_the_prompt() {
    let Some(dist) = page() else { return };
    let _turn = TURN.lock().await;
    let server = serve(&dist);
    let browser = Browser::start().await.unwrap();
    open(&browser, &server.address(), &small("clip")).await;
    set(&browser, "#frame-rate", "4").await;
    set(&browser, "#frame-count", "3").await;
    record_clip(&browser).await;
    let clip = "return document.querySelector('#composer .media')?.getAttribute('aria-label')";
    assert_eq!(
        browser.until(clip).await.unwrap(),
        "Clip of 3 frames: clip.webm"
    );
    browser
        .until("return document.querySelector('#raw-prompt').textContent === '<image>Output:'")
        .await
        .unwrap();
    set(&browser, "#most", "4").await;
    assert!(!send(&browser).await.is_empty());
    let frames = "return document.querySelectorAll('.turn .shown.clip img').length";
    assert_eq!(browser.script(frames, vec![]).await.unwrap(), 3);
}
