//! A pickle reader for containers, tensors and arrays. It executes nothing: callees of a pickle
//! are looked up in a short list, and others are rejected.
//!
//! Names and texts are borrowed from the file, and copies are charged to a [`Budget`]: a megabyte of
//! opcodes can otherwise copy one long text a million times.
//!
//! Source: CPython's `pickletools`, protocols 1 to 5.

use crate::budget::Budget;
use std::borrow::Cow;
use std::collections::HashMap;

/// A value. Values with a size are indices into [`Pickle::objects`], so that nothing is nested and a
/// malicious nesting depth cannot exhaust the stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// `None`, floats and other values that are not needed.
    Other,
    /// An integer or a boolean.
    Int(i64),
    /// See [`Object`].
    Object(usize),
}

/// A value with a size.
#[derive(Clone, Debug, PartialEq)]
pub enum Object<'a> {
    Text(&'a str),
    Bytes(Cow<'a, [u8]>),
    /// A list, tuple or set.
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// A global: module and name.
    Global(&'a str, &'a str),
    Storage(Storage<'a>),
    Tensor(Tensor<'a>),
    Array(Array<'a>),
    /// numpy's dtype: `f4`, `i8`, ...; whether it is big-endian.
    Dtype(&'a str, bool),
    /// An object whose content is not needed.
    Inert,
}

/// torch: a storage in the file, by its key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Storage<'a> {
    /// `FloatStorage`, `HalfStorage`, ...
    pub kind: &'a str,
    pub key: &'a str,
    pub count: u64,
}

/// torch: a view of a storage.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    pub storage: Storage<'a>,
    pub offset: u64,
    pub shape: Vec<usize>,
    pub strides: Vec<u64>,
}

/// numpy: an array; the data is an index into [`Pickle::objects`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array<'a> {
    pub dtype: &'a str,
    pub big_endian: bool,
    pub fortran: bool,
    pub shape: Vec<usize>,
    pub data: Option<usize>,
}

/// A parsed pickle.
#[derive(Debug)]
pub struct Pickle<'a> {
    pub root: Value,
    pub objects: Vec<Object<'a>>,
    /// Number of bytes up to and including its end.
    pub length: usize,
    /// The remaining budget for the rest of the file.
    pub budget: Budget,
}

/// Maximum number of steps: the state dict of a large model with its optimizer takes 200,000.
const MAX_STEPS: usize = 1_000_000;

/// Reads the pickle at the start of `bytes`; the error describes what is wrong.
pub fn read(bytes: &[u8]) -> Result<Pickle<'_>, String> {
    let mut machine = Machine {
        bytes,
        position: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        objects: Vec::new(),
        budget: Budget::for_file(bytes.len() as u64),
    };
    for _ in 0..MAX_STEPS {
        if let Some(root) = machine.step()? {
            return Ok(Pickle {
                root,
                objects: machine.objects,
                length: machine.position,
                budget: machine.budget,
            });
        }
    }
    Err(format!(
        "it takes more than {MAX_STEPS} steps: not the weights of a model"
    ))
}

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    pub(super) objects: Vec<Object<'a>>,
    pub(super) budget: Budget,
}

impl<'a> Machine<'a> {
    /// Executes one opcode; returns the value if it was the last one.
    fn step(&mut self) -> Result<Option<Value>, String> {
        let code = self.number::<1>()? as u8;
        match code {
            b'.' => return self.pop().map(Some),
            0x80 => drop(self.number::<1>()?),
            0x95 => drop(self.number::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.stack.push(Value::Other),
            0x88 | 0x89 => self.stack.push(Value::Int((code == 0x88) as i64)),
            b'J' => {
                let value = self.number::<4>()? as u32 as i32;
                self.stack.push(Value::Int(value as i64));
            }
            b'K' => self.push_int::<1>()?,
            b'M' => self.push_int::<2>()?,
            0x8a => self.push_long::<1>()?,
            0x8b => self.push_long::<4>()?,
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Other);
            }
            b'X' => self.push_text::<4>()?,
            0x8c => self.push_text::<1>()?,
            0x8d => self.push_text::<8>()?,
            b'T' | b'B' => self.push_bytes::<4>()?,
            b'U' | b'C' => self.push_bytes::<1>()?,
            0x8e | 0x96 => self.push_bytes::<8>()?,
            b'}' => self.push(Object::Dict(Vec::new()))?,
            b']' | b')' | 0x8f => self.push(Object::List(Vec::new()))?,
            b'l' | b't' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Object::List(items))?;
            }
            0x85..=0x87 => {
                let first = self.below((code - 0x84) as usize)?;
                let items = self.stack.split_off(first);
                self.push(Object::List(items))?;
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Object::Dict(pairs(&items)))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.extend(items)?;
            }
            b's' => {
                let first = self.below(2)?;
                let items = self.stack.split_off(first);
                self.insert(&items)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.insert(&items)?;
            }
            b'q' => self.memorize::<1>()?,
            b'r' => self.memorize::<4>()?,
            0x94 => {
                let (key, top) = (self.memo.len() as u64, self.top()?);
                self.keep(key, top)?;
            }
            b'h' => self.recall::<1>()?,
            b'j' => self.recall::<4>()?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Object::Global(module, name))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (self.text(module)?, self.text(name)?);
                self.push(Object::Global(module, name))?;
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                let result = self.call(callee, arguments)?;
                self.stack.push(result);
            }
            b'b' => {
                let (state, object) = (self.pop()?, self.top()?);
                self.build(object, state)?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.persistent(id)?;
                self.push(Object::Storage(storage))?;
            }
            other => {
                let at = self.position - 1;
                return Err(format!(
                    "byte {at} is {other:#04x}, an opcode that weights do not need"
                ));
            }
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.position..];
        let found = rest.get(..count).ok_or_else(|| {
            let (at, left) = (self.position, rest.len());
            format!("byte {at} needs {count} bytes and {left} are left: the file is truncated")
        })?;
        self.position += count;
        Ok(found)
    }

    /// A little-endian number of `N` bytes.
    fn number<const N: usize>(&mut self) -> Result<u64, String> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(self.take(N)?);
        Ok(u64::from_le_bytes(wide))
    }

    fn push_int<const N: usize>(&mut self) -> Result<(), String> {
        let value = self.number::<N>()? as i64;
        self.stack.push(Value::Int(value));
        Ok(())
    }

    /// Python's long integers; those beyond 64 bits are kept as bytes.
    fn push_long<const N: usize>(&mut self) -> Result<(), String> {
        let bytes = self.sized::<N>()?;
        if bytes.len() > 8 {
            return self.push(Object::Bytes(bytes.into()));
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.stack.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    /// Bytes with a length prefix.
    fn sized<const N: usize>(&mut self) -> Result<&'a [u8], String> {
        let count = self.number::<N>()?;
        self.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn push_text<const N: usize>(&mut self) -> Result<(), String> {
        let bytes = self.sized::<N>()?;
        let text =
            str::from_utf8(bytes).map_err(|error| format!("a string is invalid: {error}"))?;
        self.push(Object::Text(text))
    }

    fn push_bytes<const N: usize>(&mut self) -> Result<(), String> {
        let bytes = self.sized::<N>()?;
        self.push(Object::Bytes(bytes.into()))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.position..];
        let end = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or("a name has no end: the file is truncated")?)?;
        self.position += 1;
        str::from_utf8(line).map_err(|error| format!("a name is invalid: {error}"))
    }

    pub(super) fn add(&mut self, object: Object<'a>) -> Result<Value, String> {
        self.charge::<Object>(1)?;
        self.objects.push(object);
        Ok(Value::Object(self.objects.len() - 1))
    }

    fn push(&mut self, object: Object<'a>) -> Result<(), String> {
        let value = self.add(object)?;
        self.stack.push(value);
        Ok(())
    }

    /// Charges memory for `count` values of type `T`.
    pub(super) fn charge<T>(&self, count: usize) -> Result<(), String> {
        let charged = self.budget.values::<T>(count);
        charged.map_err(|error| error.to_string())
    }

    fn top(&self) -> Result<Value, String> {
        let top = self.stack.last().copied();
        top.ok_or_else(|| self.underflow())
    }

    fn pop(&mut self) -> Result<Value, String> {
        let top = self.stack.pop();
        top.ok_or_else(|| self.underflow())
    }

    fn below(&self, count: usize) -> Result<usize, String> {
        let first = self.stack.len().checked_sub(count);
        first.ok_or_else(|| self.underflow())
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        let mark = mark.ok_or_else(|| self.underflow())?;
        Ok(self.stack.split_off(mark))
    }

    fn underflow(&self) -> String {
        format!("byte {} needs a value that is missing", self.position)
    }

    fn memorize<const N: usize>(&mut self) -> Result<(), String> {
        let (key, top) = (self.number::<N>()?, self.top()?);
        self.keep(key, top)
    }

    fn keep(&mut self, key: u64, value: Value) -> Result<(), String> {
        if self.memo.insert(key, value).is_none() {
            // The table of a hash map is up to twice as large as its entries.
            self.charge::<(u64, Value)>(2)?;
        }
        Ok(())
    }

    fn recall<const N: usize>(&mut self) -> Result<(), String> {
        let key = self.number::<N>()?;
        let value = self.memo.get(&key).copied();
        let value = value.ok_or_else(|| format!("value {key} is used before it is defined"))?;
        self.stack.push(value);
        Ok(())
    }

    fn extend(&mut self, items: Vec<Value>) -> Result<(), String> {
        match self.top_object()? {
            Object::List(list) => list.extend(items),
            Object::Inert => {}
            _ => return Err("values are appended to something other than a list".into()),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Value]) -> Result<(), String> {
        match self.top_object()? {
            Object::Dict(dict) => dict.extend(pairs(items)),
            Object::Inert => {}
            _ => return Err("keys are inserted into something other than a dict".into()),
        }
        Ok(())
    }

    fn top_object(&mut self) -> Result<&mut Object<'a>, String> {
        match self.top()? {
            Value::Object(index) => Ok(&mut self.objects[index]),
            _ => Err(self.underflow()),
        }
    }
}

pub(super) fn pairs(items: &[Value]) -> Vec<(Value, Value)> {
    items
        .as_chunks::<2>()
        .0
        .iter()
        .map(|&[k, v]| (k, v))
        .collect()
}
