//! Mutations of files.

/// Words of image formats.
pub const IMAGE: &[&[u8]] = &[
    b"IHDR",
    b"PLTE",
    b"IDAT",
    b"IEND",
    b"tRNS",
    b"Exif\0\0",
    b"\xff\xc0",
    b"\xff\xda",
    b"RIFF",
    b"VP8L",
    b"BM",
];
/// Words of JSON.
pub const JSON: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"-1",
    b"1e999",
    b"\"dtype\":\"F16\"",
    b"\"data_offsets\":[0,8]",
    b"18446744073709551615",
];
/// Words of annotation and results files.
pub const COCO: &[&[u8]] = &[
    b"{}",
    b"[]",
    b"[[]]",
    b",",
    b":",
    b"null",
    b"\"1\"",
    b"-1",
    b"0",
    b"1e6",
    b"999999.5",
    b"1e999",
    b"NaN",
    b"4294967296",
    b"18446744073709551615",
    b"\"size\":[30,40]",
    b"\"counts\":",
    b"\"segmentation\":[[0,0,999999,0,0,999999]]",
    b"\"bbox\":[0,0,1e9,1e9]",
    b"\"iscrowd\":1",
    b"\"width\":10000",
    b"\"height\":10000",
    b"\"image_id\":2",
    b"\"category_id\":7",
    b"\"score\":0.5",
    b"{\"id\":1},",
];
/// Words of CVAT's XML.
pub const CVAT: &[&[u8]] = &[
    b"<image name='a' width='40' height='30'>",
    b"</image>",
    b"<polygon label='a' points='",
    b"<mask label='a' rle='",
    b"/>",
    b"</",
    b"<!--",
    b"<![CDATA[",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    b"&amp;",
    b"&b;",
    b" group_id='1'",
    b" width='10000'",
    b" left='4294967295'",
    b"1,2;",
    b"1200,",
    b"-1e300,1e300;",
    b"nan",
];
/// Words of the JSON of labelme and VIA.
pub const TOOLS: &[&[u8]] = &[
    b"{}",
    b"[]",
    b",",
    b"null",
    b"-1e300",
    b"1e999",
    b"[1e9,-1e9],",
    b"\"shape_type\":\"mask\"",
    b"\"group_id\":1",
    b"\"label\":\"b\"",
    b"\"name\":\"ellipse\"",
    b"\"name\":\"circle\"",
    b"\"regions\":{}",
    b"\"_via_img_metadata\":",
    b"AAAA",
];
/// Opcodes and names of pickles.
pub const PICKLE: &[&[u8]] = &[
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ccollections\nOrderedDict\n",
    b"cnumpy\ndtype\n",
    b"c_codecs\nencode\n",
    b"(",
    b"t",
    b"R",
    b"Q",
    b"q\x01",
    b"h\x01",
    b"\x94",
    b"\x93",
    b"}",
    b"u.",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
];
/// Words of YAML.
pub const YAML: &[&[u8]] = &[
    b"- ", b"&a ", b"*a", b"<<: *a", b"names:", b"? ", b"|\n", b"!!map", b"[[", b"{a: ",
];
/// Words of TOML.
pub const TOML: &[&[u8]] = &[
    b"[model]\n",
    b"[train]\n",
    b"nan",
    b"inf",
    b"[[",
    b"'''",
    b"9223372036854775807",
    b"-1",
    b"width = ",
    b"{ a = ",
];
/// Numbers.
pub const NUMBERS: &[&[u8]] = &[b"nan", b"inf", b"-0", b"1e999", b"0.5 0.5 ", b"\n0 "];

/// A generator of inputs; the same seed generates the same inputs.
pub struct Mutator {
    state: u64,
    words: &'static [&'static [u8]],
}

impl Mutator {
    pub fn new(seed: u64, words: &'static [&'static [u8]]) -> Self {
        Self { state: seed, words }
    }

    /// xorshift64*.
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, count: usize) -> usize {
        match count {
            0 => 0,
            count => (self.next() >> 16) as usize % count,
        }
    }

    /// A seed with one to eight mutations.
    pub fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..1 + self.below(8) {
            self.step(&mut bytes, seeds);
        }
        bytes
    }

    fn step(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let place = self.below(bytes.len().max(1));
        match self.below(10) {
            0 if !bytes.is_empty() => bytes[place] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[place] = self.next() as u8,
            2 => bytes.truncate(place),
            3 => {
                let end = (place + 1 + self.below(32)).min(bytes.len());
                bytes.drain(place.min(end)..end);
            }
            4 => {
                let special = [
                    0u64,
                    1,
                    0x7f,
                    0x80,
                    0xff,
                    0xffff,
                    0x7fff_ffff,
                    0xffff_ffff,
                    u64::MAX,
                    1 << 62,
                ];
                let value = special[self.below(special.len())].to_le_bytes();
                let width = [1, 2, 4, 8][self.below(4)];
                let end = (place + width).min(bytes.len());
                bytes[place.min(end)..end].copy_from_slice(&value[..end - place.min(end)]);
            }
            5 if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())];
                bytes.splice(place..place, word.iter().copied());
            }
            6 => {
                let other = &seeds[self.below(seeds.len())];
                let start = self.below(other.len().max(1));
                let end = (start + 1 + self.below(64)).min(other.len());
                let part = other.get(start..end).unwrap_or_default().to_vec();
                bytes.splice(place..place, part);
            }
            7 => {
                let end = (place + 1 + self.below(64)).min(bytes.len());
                let part = bytes
                    .get(place..end)
                    .unwrap_or_default()
                    .repeat(1 + self.below(16));
                bytes.splice(place..place, part);
            }
            8 => self.change_number(bytes, place),
            _ => {
                let value = self.next() as u8;
                bytes.insert(place.min(bytes.len()), value);
            }
        }
    }

    /// Replaces the next decimal number, so that a text file stays one.
    fn change_number(&mut self, bytes: &mut Vec<u8>, place: usize) {
        const NUMBERS: [&[u8]; 12] = [
            b"0",
            b"1",
            b"2",
            b"-1",
            b"0.5",
            b"29",
            b"30",
            b"41",
            b"1e6",
            b"999999.5",
            b"4294967295",
            b"1e999",
        ];
        let is_number = |byte: &u8| byte.is_ascii_digit() || b".-".contains(byte);
        let rest = bytes.get(place..).unwrap_or_default();
        let Some(start) = rest.iter().position(is_number) else {
            return;
        };
        let length = rest[start..]
            .iter()
            .take_while(|byte| is_number(byte))
            .count();
        let number = NUMBERS[self.below(NUMBERS.len())];
        let start = place + start;
        bytes.splice(start..start + length, number.iter().copied());
    }
}
