//! Damaged and hostile files: no reader panics, none takes more memory than a
//! small multiple of what it is given, and a pickle does nothing.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::io::{Cursor, Write};
use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use plume_core::checkpoint::{
    Checkpoint, Gguf, Pickle, SafeTensors, Shards, TensorFile, clip_config, shard_names,
};
use plume_core::image::Preprocess;
use plume_core::{Error, Result};
use plume_tests::root;
use proptest::prelude::*;
use proptest::sample::Index;
use zip::write::SimpleFileOptions;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory is counted for the whole process: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Bytes that a reader may take beside those in proportion to the file: its
/// tables and messages, an error's backtrace where `RUST_BACKTRACE` asks for
/// one, and what the test itself keeps.
const BASE: usize = 1 << 20;

/// Memory that `work` takes at most, beyond what there was.
fn peak(work: impl FnOnce()) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    work();
    MEMORY.peak_usage().saturating_sub(before)
}

fn file(path: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/golden").join(path)).unwrap()
}

/// Opens a file and reads all that is in it.
fn read_all(open: impl FnOnce() -> Result<Box<dyn TensorFile>>) {
    let Ok(file) = open() else { return };
    let names: Vec<String> = file.names().map(str::to_owned).collect();
    for name in names {
        let shape = file.shape(&name).unwrap().to_vec();
        file.stored(&name).unwrap();
        // A type that is no weight is refused here.
        if let Ok(data) = file.read(&name) {
            assert_eq!(data.len(), shape.iter().product::<usize>(), "{name}");
        }
    }
}

fn safetensors(bytes: Vec<u8>) -> Result<Box<dyn TensorFile>> {
    Ok(Box::new(SafeTensors::open(Box::new(bytes))?))
}

fn gguf(bytes: Vec<u8>) -> Result<Box<dyn TensorFile>> {
    Ok(Box::new(Gguf::open(Box::new(bytes))?))
}

fn pickle(bytes: Vec<u8>) -> Result<Box<dyn TensorFile>> {
    Ok(Box::new(Pickle::open(Box::new(bytes))?))
}

/// One thing that happens to a file.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index),
    Flip(Index, u8),
    /// A 64-bit length is overwritten.
    Length(Index, u64),
    /// A 32-bit length is overwritten.
    Short(Index, u32),
    /// A piece is repeated.
    Repeat(Index, u8),
    Remove(Index, u8),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let hostile = prop_oneof![
        Just(u64::MAX),
        Just(u64::MAX / 2),
        Just(1 << 40),
        Just(1 << 32),
        Just((1 << 31) - 1),
        any::<u64>(),
        0u64..1 << 20,
    ];
    let one = prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), 0u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (any::<Index>(), hostile.clone()).prop_map(|(at, n)| Damage::Length(at, n)),
        (any::<Index>(), hostile).prop_map(|(at, n)| Damage::Short(at, n as u32)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, n)| Damage::Repeat(at, n)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, n)| Damage::Remove(at, n)),
    ];
    proptest::collection::vec(one, 1..4)
}

/// `head`: damage falls into the first bytes, where lengths are.
fn damaged(mut bytes: Vec<u8>, damages: &[Damage], head: usize) -> Vec<u8> {
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        let head = head.min(bytes.len());
        let put = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| {
            let end = (at + new.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&new[..end - at]);
        };
        match damage {
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Flip(at, bit) => bytes[at.index(head)] ^= 1 << bit,
            Damage::Length(at, n) => put(&mut bytes, at.index(head), &n.to_le_bytes()),
            Damage::Short(at, n) => put(&mut bytes, at.index(head), &n.to_le_bytes()),
            Damage::Repeat(at, n) => {
                let at = at.index(head);
                let piece = bytes[at..(at + usize::from(*n)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            Damage::Remove(at, n) => {
                let at = at.index(head);
                bytes.drain(at..(at + usize::from(*n)).min(bytes.len()));
            }
        }
    }
    bytes
}

/// Damages a file in many ways; each time its reader neither panics nor takes
/// more than `times` the file's size.
fn endures(
    whole: &[u8],
    head: usize,
    times: usize,
    open: impl Fn(Vec<u8>) -> Result<Box<dyn TensorFile>>,
) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    read_all(|| Ok(open(whole.to_vec()).unwrap()));
    let config = ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(damages in damage())| {
        let bytes = damaged(whole.to_vec(), &damages, head);
        let size = bytes.len();
        let taken = peak(|| read_all(|| open(bytes)));
        prop_assert!(
            taken <= times * size + BASE,
            "{taken} bytes of memory for a file of {size}"
        );
    });
}

#[test]
fn safetensors_endures() {
    endures(&file("torch/views.safetensors"), 1024, 8, safetensors);
}

#[test]
fn gguf_endures() {
    endures(&file("gguf/small.gguf"), 1024, 8, gguf);
}

#[test]
fn the_archive_of_a_pickle_endures() {
    let whole = file("torch/views.bin");
    // Anywhere, and in the directory at the end.
    endures(&whole, whole.len(), 8, pickle);
}

/// An archive around a pickle.
fn archive(code: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", code), ("a/data/0", &[0; 64])] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// `{"x": tensor}` of 16 floats, four by four.
const GOOD: &[u8] = b"\x80\x02}X\x01\0\0\0xctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage\
    ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x10tQK\0K\x04K\x04\x86K\x04K\x01\x86\x89\
    ccollections\nOrderedDict\n)RtRs.";

#[test]
fn a_pickle_endures() {
    let file = Pickle::open(Box::new(archive(GOOD))).unwrap();
    assert_eq!(file.shape("x"), Some(&[4, 4][..]));
    endures(GOOD, GOOD.len(), 64, |code| pickle(archive(&code)));
}

fn refused(code: &[u8]) -> String {
    match Pickle::open(Box::new(archive(code))) {
        Ok(_) => panic!("{code:?} was read"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn hostile_pickles_are_refused_by_name() {
    let touched = std::env::temp_dir().join("plume-was-run");
    let _ = std::fs::remove_file(&touched);
    let command = format!("touch {}", touched.display());
    let text = |text: &str| {
        let mut code = vec![b'X'];
        code.extend((text.len() as u32).to_le_bytes());
        code.extend(text.as_bytes());
        code
    };
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("__builtin__", "getattr"),
        ("subprocess", "Popen"),
        ("torch.hub", "load"),
        ("torch", "load"),
        ("torch.jit", "load"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("runpy", "_run_code"),
        ("argparse", "Namespace"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("__torch", "x"),
        ("collections", "OrderedDict.clear"),
    ] {
        let by_line = [
            b"\x80\x02c".as_slice(),
            format!("{module}\n{name}\n").as_bytes(),
            &text(&command),
            b"\x85R.",
        ]
        .concat();
        let by_stack = [
            b"\x80\x04".as_slice(),
            &text(module),
            &text(name),
            b"\x93",
            &text(&command),
            b"\x85R.",
        ]
        .concat();
        for code in [by_line, by_stack] {
            let error = refused(&code);
            assert!(error.contains(&format!("`{module}.{name}`")), "{error}");
            assert!(error.contains("refused"), "{error}");
        }
    }
    // Other ways to make objects: INST, OBJ, the extension registry, and the
    // textual instructions of protocol 0.
    for code in [
        &b"\x80\x02(ios\nsystem\n."[..],
        b"\x80\x02(cos\nsystem\no.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02\x83\x01\0.",
        b"\x80\x04\x92.",
        b"S'x'\n.",
        b"P0\n.",
    ] {
        assert!(refused(code).contains("refused"), "{code:?}");
    }
    // A storage is no function, and neither are tensors and texts.
    for code in [
        &b"\x80\x02ctorch\nFloatStorage\n)R."[..],
        b"\x80\x02X\x01\0\0\0x)R.",
        b"\x80\x02)Q.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n)R.",
        b"\x80\x02.",
        b"\x80\x02",
        b"",
        b"\x80\x05N.",
        b"\x80\x02X\xff\xff\xff\xff.",
        b"\x80\x02h\x07.",
        b"\x80\x02t.",
        b"\x80\x02(R.",
        b"\x80\x02}.",
    ] {
        refused(code);
    }
    assert!(!touched.exists(), "a pickle was run");
}

#[test]
fn a_pickle_cannot_make_much_of_little() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let nest =
        |step: &[u8], times: usize| [b"\x80\x02)".as_slice(), &step.repeat(times), b"."].concat();
    let bombs = [
        // A tuple of a tuple of a tuple, a million deep.
        nest(b"\x85", 1_000_000),
        // Each level holds the one before twice: 2^100,000 leaves.
        nest(b"q\0h\0\x86", 100_000),
        // The same of dictionaries that hold one another.
        [
            b"\x80\x02}q\0".as_slice(),
            &b"}q\x01X\x01\0\0\0ah\0sX\x01\0\0\0bh\0sh\x01q\0".repeat(50_000),
            b".",
        ]
        .concat(),
        // A dictionary that holds itself.
        b"\x80\x02}q\0X\x01\0\0\0xh\0sX\x01\0\0\0yh\0s.".to_vec(),
        // The state of an object, given to a hundred thousand objects.
        [
            b"\x80\x02}q\0".as_slice(),
            b"(",
            &b"X\x01\0\0\0xN".repeat(100_000),
            b"u0".get(..1).unwrap(),
            &b"c__torch__\nM\n)\x81h\0b".repeat(100_000),
            b".",
        ]
        .concat(),
    ];
    for code in bombs {
        let size = code.len();
        let bytes = archive(&code);
        let taken = peak(|| {
            Pickle::open(Box::new(bytes)).err().unwrap();
        });
        assert!(taken <= 80 * size + (1 << 23), "{taken} bytes for {size}");
    }
}

#[test]
fn a_tensor_outside_its_storage_is_refused() {
    // Seventeen floats of sixteen; a stride too far; an expanded tensor.
    for (from, to) in [
        (
            &b"K\x04K\x04\x86K\x04K\x01\x86"[..],
            &b"K\x04K\x05\x86K\x04K\x01\x86"[..],
        ),
        (
            b"K\x04K\x04\x86K\x04K\x01\x86",
            b"K\x04K\x04\x86K\x05K\x01\x86",
        ),
        (b"K\x04K\x04\x86K\x04K\x01\x86", b"K\x04K\x04\x86K\0K\0\x86"),
        (b"tQK\0K\x04", b"tQK\x01K\x04"),
        (b"tQK\0K\x04", b"tQJ\xff\xff\xff\xffK\x04"),
    ] {
        let at = GOOD.windows(from.len()).position(|w| w == from).unwrap();
        let code = [&GOOD[..at], to, &GOOD[at + from.len()..]].concat();
        refused(&code);
    }
}

#[test]
fn hostile_lengths_are_told_apart_from_files() {
    let message = |result: Result<Checkpoint>| match result {
        Ok(_) => panic!("it was read"),
        Err(Error::Checkpoint(message)) => message,
        Err(other) => panic!("{other}"),
    };
    let open = |bytes: &[u8]| message(Checkpoint::open(Box::new(bytes.to_vec())));
    let mut many = b"GGUF\x03\0\0\0".to_vec();
    many.extend(u64::MAX.to_le_bytes());
    many.extend(u64::MAX.to_le_bytes());
    assert!(open(&many).contains("cut short"));
    assert!(open(b"GGUF\x02\0\0\0").contains("version 2"));
    assert!(open(&file("gguf/small.gguf")).contains("`kinds`"));
    assert!(open(b"PK\x03\x04").contains("PyTorch"));
    assert!(open(b"").contains("safetensors"));
    assert!(open(&(1u64 << 62).to_le_bytes()).contains("safetensors"));
}

#[test]
fn configurations_endure() {
    let demo = std::fs::read(root().join("www/demo/clip/config.json")).unwrap();
    let preprocessor =
        std::fs::read(root().join("www/demo/clip/preprocessor_config.json")).unwrap();
    let index = br#"{"metadata": {}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#;
    let texts = [
        demo,
        preprocessor,
        file("clip/hf-gelu/config.json"),
        file("clip/oc-gelu/open_clip_config.json"),
        index.to_vec(),
        vec![b'['; 100_000],
    ];
    let config = ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(damages in damage(), which in any::<Index>(), size in any::<usize>())| {
        let text = which.get(&texts);
        let text = damaged(text.clone(), &damages, text.len());
        let text = String::from_utf8_lossy(&text);
        // What is accepted must be a model that can be laid out.
        if let Ok(config) = clip_config(&text) {
            config.check().unwrap();
        }
        let _ = Preprocess::from_json(&text, size % 5000);
        let _ = shard_names(&text);
        let _ = Shards::open(&text, Vec::new());
    });
}
