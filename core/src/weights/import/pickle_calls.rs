//! What a pickle may ask for: tensors of torch, arrays of numpy, plain containers.

use super::pickle::{Array, Machine, Object, Pickle, Storage, Tensor, Value};
use std::borrow::Cow;

impl<'a> Machine<'a> {
    /// `callee(*arguments)`, for the few callees that make values of a state dict.
    pub(super) fn call(&mut self, callee: Value, arguments: Value) -> Result<Value, String> {
        let Value::Object(index) = callee else {
            return Err("something without a name is called".into());
        };
        let Object::Global(name) = &self.objects[index] else {
            return Err("something without a name is called".into());
        };
        let name = name.clone();
        let arguments = self.list(arguments)?.to_vec();
        let argument = |index: usize| {
            let found = arguments.get(index).copied();
            found.ok_or_else(|| format!("{name} is called with {} arguments", arguments.len()))
        };
        let object = match name.as_str() {
            "collections.OrderedDict" | "builtins.dict" | "__builtin__.dict" => {
                Object::Dict(self.given_pairs(&arguments)?)
            }
            "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor" => Object::Tensor(
                self.tensor(argument(0)?, argument(1)?, argument(2)?, argument(3)?)?,
            ),
            "torch._utils._rebuild_parameter" | "torch.Size" => return argument(0),
            "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct" => {
                Object::Array(Array::default())
            }
            "numpy.core.numeric._frombuffer" | "numpy._core.numeric._frombuffer" => {
                let order = argument(3).map(|order| self.text(order).unwrap_or("C"))?;
                let fortran = order == "F";
                let array = self.array(argument(2)?, argument(1)?, fortran, argument(0)?)?;
                Object::Array(array)
            }
            "numpy.dtype" => Object::Dtype(self.text(argument(0)?)?.into(), false),
            "_codecs.encode" => Object::Bytes(Cow::Owned(latin1(self.text(argument(0)?)?)?)),
            name if INERT.contains(&name) => Object::Inert,
            name => {
                return Err(format!(
                    "it wants to call `{name}`, which makes no tensor; nothing was executed"
                ));
            }
        };
        Ok(self.add(object))
    }

    /// The key and value pairs that a dict is made from.
    fn given_pairs(&self, arguments: &[Value]) -> Result<Vec<(Value, Value)>, String> {
        let Some(&given) = arguments.first() else {
            return Ok(Vec::new());
        };
        let items = self.list(given)?.iter();
        let pair = |&item: &Value| match *self.list(item)? {
            [key, value] => Ok((key, value)),
            _ => Err("a dict is made of something else than pairs".to_string()),
        };
        items.map(pair).collect()
    }

    /// What `BUILD` adds to an object made by a call.
    pub(super) fn build(&mut self, object: Value, state: Value) -> Result<(), String> {
        let Value::Object(index) = object else {
            return Ok(());
        };
        match &self.objects[index] {
            Object::Array(_) => {
                let state = self.list(state)?.to_vec();
                let &[_, shape, dtype, fortran, data] = state.as_slice() else {
                    return Err("an array has an unknown state".into());
                };
                let fortran = fortran == Value::Int(1);
                self.objects[index] = Object::Array(self.array(shape, dtype, fortran, data)?);
            }
            Object::Dtype(kind, _) => {
                let order = self.list(state)?.get(1).copied();
                let big = order.is_some_and(|order| self.text(order) == Ok(">"));
                self.objects[index] = Object::Dtype(kind.clone(), big);
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
    ) -> Result<Array, String> {
        let (Value::Object(dtype), Value::Object(data)) = (dtype, data) else {
            return Err("an array has no type or no data".into());
        };
        let Object::Dtype(kind, big_endian) = &self.objects[dtype] else {
            return Err("an array has no type".into());
        };
        Ok(Array {
            dtype: kind.clone(),
            big_endian: *big_endian,
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
    ) -> Result<Tensor, String> {
        let storage = match storage {
            Value::Object(index) => match &self.objects[index] {
                Object::Storage(storage) => storage.clone(),
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
    pub(super) fn persistent(&self, id: Value) -> Result<Storage, String> {
        let (tag, kind, key, count) = match *self.list(id)? {
            [tag, kind, key, _, count] | [tag, kind, key, _, count, Value::Other] => {
                (tag, kind, key, count)
            }
            [_, _, _, _, _, _] => return Err("a storage is a view of another one".into()),
            _ => return Err("a storage has an unknown description".into()),
        };
        if self.text(tag)? != "storage" {
            return Err(format!("`{}` is stored outside of it", self.text(tag)?));
        }
        let kind = match kind {
            Value::Object(index) => match &self.objects[index] {
                Object::Global(name) => name.rsplit('.').next().unwrap_or(name).to_string(),
                _ => return Err("a storage has no type".into()),
            },
            _ => return Err("a storage has no type".into()),
        };
        Ok(Storage {
            kind,
            key: self.text(key)?.into(),
            count: length(count)?,
        })
    }

    fn list(&self, value: Value) -> Result<&[Value], String> {
        match value {
            Value::Object(index) => match &self.objects[index] {
                Object::List(items) => Ok(items),
                _ => Err("a tuple is wanted and something else is given".into()),
            },
            _ => Err("a tuple is wanted and something else is given".into()),
        }
    }

    pub(super) fn text(&self, value: Value) -> Result<&str, String> {
        text(&self.objects, value).ok_or_else(|| "a text is wanted and not given".to_string())
    }

    fn lengths(&self, value: Value) -> Result<Vec<u64>, String> {
        let items = self.list(value)?;
        if items.len() > 8 {
            return Err(format!("a tensor has {} dimensions", items.len()));
        }
        items.iter().map(|&item| length(item)).collect()
    }
}

/// Objects of training checkpoints that hold settings, not weights.
const INERT: [&str; 8] = [
    "argparse.Namespace",
    "collections.Counter",
    "collections.defaultdict",
    "builtins.set",
    "torch.device",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "torch.nn.parameter.Parameter",
];

impl Tensor {
    /// Refuses a view that reaches beyond its storage.
    fn check(&self) -> Result<(), String> {
        if self.shape.len() != self.strides.len() {
            return Err("a tensor has more dimensions than strides, or fewer".into());
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

/// How Python 2 and early numpy protocols write bytes: as text, one character a byte.
fn latin1(text: &str) -> Result<Vec<u8>, String> {
    let bytes = text.chars().map(|c| u8::try_from(c as u32));
    let bytes: Result<_, _> = bytes.collect();
    bytes.map_err(|_| "bytes are written as a text of wider characters".into())
}

fn text<'a>(objects: &'a [Object], value: Value) -> Option<&'a str> {
    match value {
        Value::Object(index) => match objects.get(index)? {
            Object::Text(text) => Some(text),
            Object::Bytes(bytes) => str::from_utf8(bytes).ok(),
            _ => None,
        },
        _ => None,
    }
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

    /// A text.
    pub fn text(&self, value: Value) -> Option<&str> {
        text(&self.objects, value)
    }

    /// The entries of the model's state dict: the root, or what it holds as `model`, `state_dict`
    /// or `model_state_dict`.
    pub fn state_dict(&self) -> Option<Vec<(&str, &Object<'a>)>> {
        let mut dict = self.root;
        for key in ["model", "state_dict", "model_state_dict"] {
            let inner = self.get(self.root, key);
            if let Some(inner) = inner.filter(|&v| matches!(self.object(v), Some(Object::Dict(_))))
            {
                dict = inner;
                break;
            }
        }
        let Object::Dict(entries) = self.object(dict)? else {
            return None;
        };
        let named = entries
            .iter()
            .filter_map(|&(key, value)| Some((self.text(key)?, self.object(value)?)));
        Some(named.collect())
    }

    fn get(&self, dict: Value, key: &str) -> Option<Value> {
        let Object::Dict(entries) = self.object(dict)? else {
            return None;
        };
        let found = entries.iter().find(|(k, _)| self.text(*k) == Some(key));
        found.map(|(_, value)| *value)
    }
}
