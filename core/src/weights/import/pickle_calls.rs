//! The calls that a pickle may contain: tensors of torch, arrays of numpy, plain containers.

use super::pickle::{Array, Machine, Object, Pickle, Storage, Tensor, Value};
use crate::budget::{OverBudget, excerpt};
use std::borrow::Cow;

impl<'a> Machine<'a> {
    /// `callee(*arguments)`, for the few callees that create values of a state dict.
    pub(super) fn call(&mut self, callee: Value, arguments: Value) -> Result<Value, String> {
        let Value::Object(index) = callee else {
            return Err("a callee has no name".into());
        };
        let Object::Global(module, name) = self.objects[index] else {
            return Err("a callee has no name".into());
        };
        let arguments = self.list(arguments)?;
        let argument = |index: usize| {
            let found = arguments.get(index).copied();
            let count = arguments.len();
            found.ok_or_else(|| format!("{module}.{name} is called with {count} arguments"))
        };
        let object = match (module, name) {
            ("collections", "OrderedDict") | ("builtins" | "__builtin__", "dict") => {
                Object::Dict(self.given_pairs(arguments)?)
            }
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Object::Tensor(
                self.tensor(argument(0)?, argument(1)?, argument(2)?, argument(3)?)?,
            ),
            ("torch._utils", "_rebuild_parameter") | ("torch", "Size") => return argument(0),
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => {
                Object::Array(Array::default())
            }
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => {
                let order = argument(3).map(|order| self.text(order).unwrap_or("C"))?;
                let fortran = order == "F";
                let array = self.array(argument(2)?, argument(1)?, fortran, argument(0)?)?;
                Object::Array(array)
            }
            ("numpy", "dtype") => Object::Dtype(self.text(argument(0)?)?, false),
            ("_codecs", "encode") => {
                let text = self.text(argument(0)?)?;
                self.charge::<u8>(text.len())?;
                Object::Bytes(Cow::Owned(latin1(text)?))
            }
            global if INERT.contains(&global) => Object::Inert,
            (module, name) => {
                let (module, name) = (excerpt(module), excerpt(name));
                return Err(format!(
                    "it calls `{module}.{name}`, which does not create a tensor; nothing was executed"
                ));
            }
        };
        self.add(object)
    }

    /// The key and value pairs of a new dict.
    fn given_pairs(&self, arguments: &[Value]) -> Result<Vec<(Value, Value)>, String> {
        let Some(&given) = arguments.first() else {
            return Ok(Vec::new());
        };
        let items = self.list(given)?.iter();
        self.charge::<(Value, Value)>(items.len())?;
        let pair = |&item: &Value| match *self.list(item)? {
            [key, value] => Ok((key, value)),
            _ => Err("a dict is created from something other than pairs".to_string()),
        };
        items.map(pair).collect()
    }

    /// Applies `BUILD` to an object that a call created.
    pub(super) fn build(&mut self, object: Value, state: Value) -> Result<(), String> {
        let Value::Object(index) = object else {
            return Ok(());
        };
        match &self.objects[index] {
            Object::Array(_) => {
                let &[_, shape, dtype, fortran, data] = self.list(state)? else {
                    return Err("an array has an unknown state".into());
                };
                self.charge::<usize>(MAX_DIMENSIONS)?;
                let fortran = fortran == Value::Int(1);
                self.objects[index] = Object::Array(self.array(shape, dtype, fortran, data)?);
            }
            &Object::Dtype(kind, _) => {
                let order = self.list(state)?.get(1).copied();
                let big = order.is_some_and(|order| self.text(order) == Ok(">"));
                self.objects[index] = Object::Dtype(kind, big);
            }
            _ => {}
        }
        Ok(())
    }

    fn array(
        &self,
        shape: Value,
        dtype: Value,
        fortran: bool,
        data: Value,
    ) -> Result<Array<'a>, String> {
        let (Value::Object(dtype), Value::Object(data)) = (dtype, data) else {
            return Err("an array has no type or no data".into());
        };
        let Object::Dtype(dtype, big_endian) = self.objects[dtype] else {
            return Err("an array has no type".into());
        };
        Ok(Array {
            dtype,
            big_endian,
            fortran,
            shape: self
                .lengths(shape)?
                .into_iter()
                .map(|l| l as usize)
                .collect(),
            data: Some(data),
        })
    }

    fn tensor(
        &self,
        storage: Value,
        offset: Value,
        shape: Value,
        strides: Value,
    ) -> Result<Tensor<'a>, String> {
        self.charge::<usize>(2 * MAX_DIMENSIONS)?;
        let storage = match storage {
            Value::Object(index) => match &self.objects[index] {
                Object::Storage(storage) => *storage,
                _ => return Err("a tensor has no storage".into()),
            },
            _ => return Err("a tensor has no storage".into()),
        };
        let tensor = Tensor {
            offset: length(offset)?,
            shape: self
                .lengths(shape)?
                .into_iter()
                .map(|l| l as usize)
                .collect(),
            strides: self.lengths(strides)?,
            storage,
        };
        tensor.check()?;
        Ok(tensor)
    }

    /// torch's reference to a storage: `("storage", type, key, device, count)`.
    pub(super) fn persistent(&self, id: Value) -> Result<Storage<'a>, String> {
        let (tag, kind, key, count) = match *self.list(id)? {
            [tag, kind, key, _, count] | [tag, kind, key, _, count, Value::Other] => {
                (tag, kind, key, count)
            }
            [_, _, _, _, _, _] => return Err("a storage is a view of another one".into()),
            _ => return Err("a storage has an unknown description".into()),
        };
        if self.text(tag)? != "storage" {
            let tag = excerpt(self.text(tag)?);
            return Err(format!("`{tag}` is stored outside of it"));
        }
        let kind = match kind {
            Value::Object(index) => match &self.objects[index] {
                Object::Global(_, name) => name.rsplit('.').next().unwrap_or(name),
                _ => return Err("a storage has no type".into()),
            },
            _ => return Err("a storage has no type".into()),
        };
        Ok(Storage {
            kind,
            key: self.text(key)?,
            count: length(count)?,
        })
    }

    fn list(&self, value: Value) -> Result<&[Value], String> {
        match value {
            Value::Object(index) => match &self.objects[index] {
                Object::List(items) => Ok(items),
                _ => Err("a tuple is expected".into()),
            },
            _ => Err("a tuple is expected".into()),
        }
    }

    /// A string of the file. Bytes count as strings too (Python 2), and are checked on every use.
    pub(super) fn text(&self, value: Value) -> Result<&'a str, String> {
        let found = match value {
            Value::Object(index) => match &self.objects[index] {
                Object::Text(text) => Some(*text),
                Object::Bytes(Cow::Borrowed(bytes)) => {
                    let work = self.budget.work(bytes.len());
                    work.map_err(|error| error.to_string())?;
                    str::from_utf8(bytes).ok()
                }
                _ => None,
            },
            _ => None,
        };
        found.ok_or_else(|| "a string is expected".to_string())
    }

    fn lengths(&self, value: Value) -> Result<Vec<u64>, String> {
        let items = self.list(value)?;
        if items.len() > MAX_DIMENSIONS {
            return Err(format!("a tensor has {} dimensions", items.len()));
        }
        items.iter().map(|&item| length(item)).collect()
    }
}

/// Objects of training checkpoints that contain settings, not weights.
const INERT: [(&str, &str); 8] = [
    ("argparse", "Namespace"),
    ("collections", "Counter"),
    ("collections", "defaultdict"),
    ("builtins", "set"),
    ("torch", "device"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("torch.nn.parameter", "Parameter"),
];

/// Maximum number of dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

impl Tensor<'_> {
    /// Rejects a view that reaches beyond its storage.
    fn check(&self) -> Result<(), String> {
        if self.shape.len() != self.strides.len() {
            return Err("a tensor has different numbers of dimensions and strides".into());
        }
        if self.shape.contains(&0) {
            return Ok(());
        }
        let mut reach = self.shape.iter().zip(&self.strides);
        let last = reach.try_fold(self.offset, |sum, (&size, &stride)| {
            sum.checked_add((size as u64 - 1).checked_mul(stride)?)
        });
        match last {
            Some(last) if last < self.storage.count => Ok(()),
            _ => Err(format!(
                "a tensor {:?} reaches beyond its storage of {} numbers",
                self.shape, self.storage.count
            )),
        }
    }
}

fn length(value: Value) -> Result<u64, String> {
    match value {
        Value::Int(value) if value >= 0 => Ok(value as u64),
        Value::Int(value) => Err(format!("a length is {value}")),
        _ => Err("a length is not a number".into()),
    }
}

/// Python 2 and early numpy protocols write bytes as text, one character per byte.
fn latin1(text: &str) -> Result<Vec<u8>, String> {
    let bytes = text.chars().map(|c| u8::try_from(c as u32));
    let bytes: Result<_, _> = bytes.collect();
    bytes.map_err(|_| "bytes are written as a string with wider characters".into())
}

impl<'a> Pickle<'a> {
    /// The object behind a value.
    pub fn object(&self, value: Value) -> Option<&Object<'a>> {
        match value {
            Value::Object(index) => self.objects.get(index),
            _ => None,
        }
    }

    /// A list, tuple or set.
    pub fn items(&self, value: Value) -> Option<&[Value]> {
        match self.object(value)? {
            Object::List(items) => Some(items),
            _ => None,
        }
    }

    /// A string; every access is charged.
    pub fn text(&self, value: Value) -> Result<Option<&str>, OverBudget> {
        let bytes = match self.object(value) {
            Some(Object::Text(text)) => return Ok(Some(text)),
            Some(Object::Bytes(bytes)) => bytes,
            _ => return Ok(None),
        };
        self.budget.work(bytes.len())?;
        Ok(str::from_utf8(bytes).ok())
    }

    /// The entries of the model's state dict: the root, or its item `model`, `state_dict`, `model_state_dict` or
    /// `blobs` (Caffe2).
    pub fn state_dict(&self) -> Result<Vec<(&str, &Object<'a>)>, String> {
        let mut dict = self.root;
        for key in ["model", "state_dict", "model_state_dict", "blobs"] {
            let inner = self.get(self.root, key);
            if let Some(inner) = inner.filter(|&v| matches!(self.object(v), Some(Object::Dict(_))))
            {
                dict = inner;
                break;
            }
        }
        let Some(Object::Dict(entries)) = self.object(dict) else {
            return Err("it contains no dict of tensors".into());
        };
        let mut named = Vec::with_capacity(entries.len());
        for &(key, value) in entries {
            let name = self.text(key).map_err(|error| error.to_string())?;
            named.extend(name.zip(self.object(value)));
        }
        Ok(named)
    }

    fn get(&self, dict: Value, key: &str) -> Option<Value> {
        let Object::Dict(entries) = self.object(dict)? else {
            return None;
        };
        let is_key = |value: Value| match self.object(value) {
            Some(Object::Text(text)) => *text == key,
            Some(Object::Bytes(bytes)) => **bytes == *key.as_bytes(),
            _ => false,
        };
        let found = entries.iter().find(|(k, _)| is_key(*k));
        found.map(|(_, value)| *value)
    }
}
