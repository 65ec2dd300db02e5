//! The part of the language of pickles
//! ([`pickletools`](https://docs.python.org/3/library/pickletools.html)) that
//! says which tensors there are, run on data that cannot act: tensors, ordered
//! dictionaries and TorchScript's modules are known, everything else is refused
//! by name, and nothing is ever called or imported.

use std::collections::{BTreeMap, HashMap};

use super::no;
use crate::Result;

/// Deepest nesting of modules and dictionaries in which tensors are found.
const MAX_DEPTH: usize = 32;
/// Most entries of all of these; the largest CLIP's archive has some 20,000.
const MAX_ENTRIES: usize = 1 << 17;
/// Longest name of a tensor, in bytes.
const MAX_NAME: usize = 512;
/// Most axes of a tensor.
const MAX_AXES: usize = 8;

/// A value on the stack. Containers live in [`Machine`]'s lists, so that a
/// value is small and is copied, shared or dropped without recursion.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    Mark,
    None,
    Int(i64),
    /// A truth value, a float or a very long number: never needed.
    Opaque,
    Text(Text),
    Global(Global),
    /// A tuple or list, by number.
    List(usize),
    /// A dictionary or a module with its attributes, by number.
    Dict(usize),
    /// By number.
    Storage(usize),
    /// By number.
    Tensor(usize),
}

/// Where a text lies in the pickle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    start: u32,
    len: u32,
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    RebuildTensor,
    RebuildParameter,
    OrderedDict,
    Storage(Number),
    /// A class of TorchScript's.
    Module,
    /// Something that gives no tensor: a list of numbers, a device.
    Opaque,
}

/// The number types of storages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    F64,
    F32,
    F16,
    BF16,
    /// No weight; by its bytes.
    Other(u8),
}

impl Number {
    fn of_storage(class: &str) -> Option<Self> {
        Some(match class.strip_suffix("Storage")? {
            "Double" => Self::F64,
            "Float" => Self::F32,
            "Half" => Self::F16,
            "BFloat16" => Self::BF16,
            "Long" => Self::Other(8),
            "Int" => Self::Other(4),
            "Short" => Self::Other(2),
            "Char" | "Byte" | "Bool" => Self::Other(1),
            _ => return None,
        })
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Other(bytes) => usize::from(bytes),
        }
    }
}

impl Global {
    fn of_name(module: &str, name: &str) -> Option<Self> {
        if let ("torch", Some(number)) = (module, Number::of_storage(name)) {
            return Some(Self::Storage(number));
        }
        match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch", "device" | "Size")
            | (
                "torch.jit._pickle",
                "build_intlist" | "build_doublelist" | "build_boollist" | "build_tensorlist"
                | "restore_type_tag",
            ) => Some(Self::Opaque),
            _ if module == "__torch__" || module.starts_with("__torch__.") => Some(Self::Module),
            _ => None,
        }
    }
}

/// What tensors lie in, by its name in the archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage {
    pub(super) number: Number,
    pub(super) key: Text,
}

/// A tensor: a part of a storage.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) storage: Storage,
    /// In elements.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// Runs a pickle.
pub(super) struct Machine<'a> {
    code: &'a [u8],
    at: usize,
    stack: Vec<Item>,
    memo: HashMap<u32, Item>,
    lists: Vec<Vec<Item>>,
    dicts: Vec<Vec<(Item, Item)>>,
    storages: Vec<Storage>,
    views: Vec<View>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(code: &'a [u8]) -> Self {
        Self {
            code,
            at: 0,
            stack: Vec::new(),
            memo: HashMap::new(),
            lists: Vec::new(),
            dicts: Vec::new(),
            storages: Vec::new(),
            views: Vec::new(),
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.code.len());
        let end = end.ok_or_else(|| no("its pickle is cut short"))?;
        let start = std::mem::replace(&mut self.at, end);
        Ok(&self.code[start..end])
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut word = [0; N];
        word.copy_from_slice(self.take(N)?);
        Ok(word)
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.code[self.at..];
        let len = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(len.ok_or_else(|| no("its pickle is cut short"))?)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| no("its pickle has a name that is not UTF-8"))
    }

    fn text(&mut self, len: usize) -> Result<Item> {
        let start = self.at as u32;
        let text = self.take(len)?;
        std::str::from_utf8(text).map_err(|_| no("its pickle has a text that is not UTF-8"))?;
        let len = len as u32;
        Ok(Item::Text(Text { start, len }))
    }

    pub(super) fn str(&self, text: Text) -> &'a str {
        let start = text.start as usize;
        // Checked when it was pushed.
        std::str::from_utf8(&self.code[start..start + text.len as usize]).unwrap_or_default()
    }

    fn pop(&mut self) -> Result<Item> {
        match self.stack.pop() {
            None | Some(Item::Mark) => Err(no("its pickle takes what is not there")),
            Some(item) => Ok(item),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Item>> {
        let mark = self
            .stack
            .iter()
            .rposition(|item| matches!(item, Item::Mark));
        let mark = mark.ok_or_else(|| no("its pickle takes what is not there"))?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn list(&mut self, items: Vec<Item>) -> Item {
        self.lists.push(items);
        Item::List(self.lists.len() - 1)
    }

    fn dict(&mut self) -> Item {
        self.dicts.push(Vec::new());
        Item::Dict(self.dicts.len() - 1)
    }

    fn extend_list(&mut self, items: Vec<Item>) -> Result<()> {
        match self.stack.last() {
            Some(&Item::List(list)) => self.lists[list].extend(items),
            _ => return Err(no("its pickle appends to what is no list")),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Item]) -> Result<()> {
        let pairs = items
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&[key, value]| (key, value));
        match self.stack.last() {
            Some(&Item::Dict(dict)) => self.dicts[dict].extend(pairs),
            _ => return Err(no("its pickle sets items of what is no dictionary")),
        }
        Ok(())
    }

    /// `callable(*arguments)`, for the few that are known.
    fn call(&mut self, callable: Item, arguments: Item) -> Result<Item> {
        let (Item::Global(global), Item::List(arguments)) = (callable, arguments) else {
            return Err(no("its pickle calls what is no function"));
        };
        match global {
            Global::OrderedDict | Global::Module => Ok(self.dict()),
            Global::Opaque => Ok(Item::Opaque),
            Global::RebuildParameter => match self.lists[arguments].first() {
                Some(&tensor @ Item::Tensor(_)) => Ok(tensor),
                _ => Err(no("its pickle makes a parameter of what is no tensor")),
            },
            Global::RebuildTensor => {
                let view = self.view(arguments);
                let view = view.ok_or_else(|| no("its pickle describes a tensor wrongly"))?;
                self.views.push(view);
                Ok(Item::Tensor(self.views.len() - 1))
            }
            Global::Storage(_) => Err(no("its pickle calls what is no function")),
        }
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, …)`.
    fn view(&self, arguments: usize) -> Option<View> {
        let sizes = |item: Item| -> Option<Vec<usize>> {
            let Item::List(list) = item else { return None };
            let sizes = self.lists[list]
                .iter()
                .take(MAX_AXES + 1)
                .map(|item| match item {
                    Item::Int(n) => usize::try_from(*n).ok(),
                    _ => None,
                });
            sizes.collect()
        };
        let &[Item::Storage(storage), Item::Int(offset), size, stride, ..] =
            self.lists[arguments].as_slice()
        else {
            return None;
        };
        let (shape, strides) = (sizes(size)?, sizes(stride)?);
        (shape.len() == strides.len() && shape.len() <= MAX_AXES).then_some(View {
            storage: self.storages[storage],
            offset: usize::try_from(offset).ok()?,
            shape,
            strides,
        })
    }

    /// `('storage', class, key, device, elements)`.
    fn storage(&mut self, id: Item) -> Result<Item> {
        let Item::List(list) = id else {
            return Err(no("its pickle names a storage wrongly"));
        };
        let &[
            Item::Text(kind),
            Item::Global(Global::Storage(number)),
            Item::Text(key),
            ..,
        ] = self.lists[list].as_slice()
        else {
            return Err(no("its pickle names a storage wrongly"));
        };
        if self.str(kind) != "storage" {
            return Err(no("its pickle names a storage wrongly"));
        }
        self.storages.push(Storage { number, key });
        Ok(Item::Storage(self.storages.len() - 1))
    }

    /// Sets the state of an object, a module's attributes: an entry without a
    /// key.
    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        match (self.stack.last(), state) {
            (Some(&Item::Dict(object)), Item::Dict(_)) => {
                self.dicts[object].push((Item::None, state));
                Ok(())
            }
            (Some(Item::Dict(_) | Item::Opaque), _) => Ok(()),
            _ => Err(no("its pickle gives a state to what has none")),
        }
    }

    /// Runs to the end and gives what is left.
    pub(super) fn run(&mut self) -> Result<Item> {
        loop {
            let opcode = self.take(1)?[0];
            let item = match opcode {
                // PROTO, FRAME, STOP
                0x80 => match self.take(1)?[0] {
                    2..=4 => continue,
                    other => return Err(no(format!("its pickle is of protocol {other}"))),
                },
                0x95 => {
                    self.take(8)?;
                    continue;
                }
                b'.' => return self.pop(),
                b'(' => Item::Mark,
                b'N' => Item::None,
                // NEWTRUE, NEWFALSE, BINFLOAT
                0x88 | 0x89 => Item::Opaque,
                b'G' => {
                    self.take(8)?;
                    Item::Opaque
                }
                b'K' => Item::Int(i64::from(self.take(1)?[0])),
                b'M' => Item::Int(i64::from(u16::from_le_bytes(self.word()?))),
                b'J' => Item::Int(i64::from(i32::from_le_bytes(self.word()?))),
                // LONG1
                0x8a => {
                    let len = usize::from(self.take(1)?[0]);
                    self.long(len)?
                }
                // BINUNICODE, SHORT_BINUNICODE
                b'X' => {
                    let len = u32::from_le_bytes(self.word()?);
                    self.text(len as usize)?
                }
                0x8c => {
                    let len = usize::from(self.take(1)?[0]);
                    self.text(len)?
                }
                b')' | b']' => self.list(Vec::new()),
                b'}' => self.dict(),
                // TUPLE, TUPLE1, TUPLE2, TUPLE3
                b't' => {
                    let items = self.since_mark()?;
                    self.list(items)
                }
                0x85..=0x87 => {
                    let mut items = Vec::with_capacity(3);
                    for _ in 0x84..opcode {
                        items.insert(0, self.pop()?);
                    }
                    self.list(items)
                }
                // APPEND, APPENDS, SETITEM, SETITEMS
                b'a' => {
                    let item = self.pop()?;
                    self.extend_list(vec![item])?;
                    continue;
                }
                b'e' => {
                    let items = self.since_mark()?;
                    self.extend_list(items)?;
                    continue;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.extend_dict(&[key, value])?;
                    continue;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.extend_dict(&items)?;
                    continue;
                }
                // BINPUT, LONG_BINPUT, MEMOIZE
                b'q' | b'r' | 0x94 => {
                    let place = match opcode {
                        b'q' => u32::from(self.take(1)?[0]),
                        b'r' => u32::from_le_bytes(self.word()?),
                        _ => self.memo.len() as u32,
                    };
                    let item = self.pop()?;
                    self.memo.insert(place, item);
                    item
                }
                // BINGET, LONG_BINGET
                b'h' | b'j' => {
                    let place = match opcode {
                        b'h' => u32::from(self.take(1)?[0]),
                        _ => u32::from_le_bytes(self.word()?),
                    };
                    let item = self.memo.get(&place).copied();
                    item.ok_or_else(|| no("its pickle takes what is not there"))?
                }
                // GLOBAL, STACK_GLOBAL
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    global(module, name)?
                }
                0x93 => match (self.pop()?, self.pop()?) {
                    (Item::Text(name), Item::Text(module)) => {
                        global(self.str(module), self.str(name))?
                    }
                    _ => return Err(no("its pickle names a function wrongly")),
                },
                // REDUCE, NEWOBJ
                b'R' | 0x81 => {
                    let arguments = self.pop()?;
                    let callable = self.pop()?;
                    self.call(callable, arguments)?
                }
                b'b' => {
                    self.build()?;
                    continue;
                }
                // BINPERSID
                b'Q' => {
                    let id = self.pop()?;
                    self.storage(id)?
                }
                other => {
                    return Err(no(format!(
                        "its pickle uses the instruction {other:#04x} at byte {}, which no \
                         checkpoint needs: it is refused",
                        self.at - 1
                    )));
                }
            };
            self.stack.push(item);
        }
    }

    fn long(&mut self, len: usize) -> Result<Item> {
        let bytes = self.take(len)?;
        if len > 8 {
            return Ok(Item::Opaque);
        }
        let sign = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut wide = [if sign { 0xff } else { 0 }; 8];
        wide[..len].copy_from_slice(bytes);
        Ok(Item::Int(i64::from_le_bytes(wide)))
    }

    /// The tensors of dictionaries within dictionaries, by path.
    pub(super) fn tensors(&self, root: Item) -> Result<BTreeMap<String, View>> {
        let mut found = BTreeMap::new();
        // Shared dictionaries are seen once for each way to them, and there may
        // be more ways than can be walked.
        let mut left = MAX_ENTRIES;
        let mut open = vec![(String::new(), root, 0)];
        while let Some((path, item, depth)) = open.pop() {
            match item {
                Item::Tensor(view) => {
                    found.insert(path, self.views[view].clone());
                }
                Item::Dict(dict) if depth < MAX_DEPTH => {
                    for &(key, value) in &self.dicts[dict] {
                        left = left
                            .checked_sub(1)
                            .ok_or_else(|| no("its pickle says the same thing too often"))?;
                        if !matches!(value, Item::Dict(_) | Item::Tensor(_)) {
                            continue;
                        }
                        let path = match key {
                            Item::None => path.clone(),
                            Item::Text(key) if path.is_empty() => self.str(key).to_owned(),
                            Item::Text(key) => format!("{path}.{}", self.str(key)),
                            _ => continue,
                        };
                        if path.len() > MAX_NAME {
                            return Err(no("its tensors have names that are too long"));
                        }
                        open.push((path, value, depth + 1));
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

fn global(module: &str, name: &str) -> Result<Item> {
    match Global::of_name(module, name) {
        Some(global) => Ok(Item::Global(global)),
        None => Err(no(format!(
            "its pickle asks for `{module}.{name}`, which is no part of a checkpoint of weights: \
             it is refused, and nothing of it was run"
        ))),
    }
}
