//! Writes GGUF files, true ones and lying ones.

use videosdgx_gguf::GgmlType;

#[derive(Clone)]
pub(crate) enum Metadata {
    U32(u32),
    F32(f32),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    I32s(Vec<i32>),
    /// A type's number and the bytes that follow it.
    Raw(u32, Vec<u8>),
}

#[derive(Clone)]
struct Tensor {
    name: String,
    /// Innermost first, as in the file.
    dims: Vec<u64>,
    kind: u32,
    offset: u64,
    bytes: u64,
}

#[derive(Clone)]
pub(crate) struct FileBuilder {
    magic: [u8; 4],
    version: u32,
    tensor_count: Option<u64>,
    metadata_count: Option<u64>,
    metadata: Vec<(String, Metadata)>,
    tensors: Vec<Tensor>,
}

impl Default for FileBuilder {
    fn default() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            metadata_count: None,
            metadata: Vec::new(),
            tensors: Vec::new(),
        }
    }
}

impl FileBuilder {
    pub(crate) fn magic(mut self, magic: [u8; 4]) -> Self {
        self.magic = magic;
        self
    }

    pub(crate) fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    pub(crate) fn tensor_count(mut self, count: u64) -> Self {
        self.tensor_count = Some(count);
        self
    }

    pub(crate) fn metadata_count(mut self, count: u64) -> Self {
        self.metadata_count = Some(count);
        self
    }

    pub(crate) fn with(mut self, key: &str, value: Metadata) -> Self {
        self.metadata.push((key.to_owned(), value));
        self
    }

    /// `dims` innermost first; `bytes` of data are written at `offset` (up to 1 MiB from the start of the data).
    pub(crate) fn tensor(
        mut self,
        name: &str,
        dims: &[u64],
        kind: GgmlType,
        offset: u64,
        bytes: u64,
    ) -> Self {
        self.tensors.push(Tensor {
            name: name.to_owned(),
            dims: dims.to_vec(),
            kind: kind.id(),
            offset,
            bytes,
        });
        self
    }

    pub(crate) fn tensor_of_type(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        self.tensors.push(Tensor { name: name.to_owned(), dims: dims.to_vec(), kind, offset, bytes: 4 });
        self
    }

    /// The file and where its data begin.
    pub(crate) fn build(&self) -> (Vec<u8>, u64) {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.metadata_count.unwrap_or(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            string(&mut bytes, key);
            write(&mut bytes, value);
        }
        for tensor in &self.tensors {
            string(&mut bytes, &tensor.name);
            bytes.extend(u32::try_from(tensor.dims.len()).expect("few").to_le_bytes());
            tensor.dims.iter().for_each(|size| bytes.extend(size.to_le_bytes()));
            bytes.extend(tensor.kind.to_le_bytes());
            bytes.extend(tensor.offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        let data_start = bytes.len();
        for tensor in &self.tensors {
            if let Some(end) = tensor.offset.checked_add(tensor.bytes).filter(|&end| end < 1 << 20) {
                bytes.resize(bytes.len().max(data_start + end as usize), 0);
            }
        }
        (bytes, data_start as u64)
    }
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn write(bytes: &mut Vec<u8>, value: &Metadata) {
    match value {
        Metadata::U32(value) => {
            [4u32.to_le_bytes(), value.to_le_bytes()].iter().for_each(|part| bytes.extend(part))
        }
        Metadata::F32(value) => {
            [6u32.to_le_bytes(), value.to_le_bytes()].iter().for_each(|part| bytes.extend(part))
        }
        Metadata::Bool(value) => {
            bytes.extend(7u32.to_le_bytes());
            bytes.push(u8::from(*value));
        }
        Metadata::String(text) => {
            bytes.extend(8u32.to_le_bytes());
            string(bytes, text);
        }
        Metadata::Strings(texts) => {
            bytes.extend([9u32.to_le_bytes(), 8u32.to_le_bytes()].concat());
            bytes.extend((texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| string(bytes, text));
        }
        Metadata::I32s(values) => {
            bytes.extend([9u32.to_le_bytes(), 5u32.to_le_bytes()].concat());
            bytes.extend((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        }
        Metadata::Raw(kind, raw) => {
            bytes.extend(kind.to_le_bytes());
            bytes.extend(raw);
        }
    }
}
