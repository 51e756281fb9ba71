//! Walk over the Huffman codes of a baseline JPEG, which counts its blocks without computing pixels. Decoders fill the
//! blocks after an early end marker with whatever zero bits decode to, and report success.

/// Result of a walk over all scans.
#[derive(Debug, PartialEq)]
pub(super) enum Walk {
    /// All blocks are present.
    Whole,
    /// The data ends early: number of blocks present, and number expected.
    Short(usize, usize),
    /// Progressive, arithmetic or lossless coding, or headers that this parser does not support.
    Unknown,
}

/// Lookup table by the next 16 bits: code length and symbol; 0 for an invalid code.
type Table = Box<[u16]>;

#[derive(Clone, Copy, Default)]
struct Component {
    id: u8,
    across: usize,
    down: usize,
}

#[derive(Default)]
struct Headers {
    width: usize,
    height: usize,
    components: Vec<Component>,
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    restart: usize,
}

/// Walks every scan of a file.
pub(super) fn walk(bytes: &[u8]) -> Walk {
    let mut headers = Headers::default();
    let mut at = 2;
    loop {
        let Some((marker, segment, next)) = segment(bytes, at) else {
            return Walk::Whole;
        };
        at = next;
        let read = match marker {
            0xC0 | 0xC1 => headers.frame(segment),
            0xC4 => headers.tables(segment),
            0xC2 | 0xC3 | 0xC5..=0xCF => None,
            0xDD => segment
                .first_chunk()
                .map(|interval| headers.restart = u16::from_be_bytes(*interval).into()),
            0xDA => match headers.scan(segment, &bytes[at..]) {
                Some(Ok(used)) => {
                    at += used;
                    Some(())
                }
                Some(Err((done, all))) => return Walk::Short(done, all),
                None => None,
            },
            _ => Some(()),
        };
        if read.is_none() {
            return Walk::Unknown;
        }
    }
}

/// The next marker with its segment and the position after it; `None` at the end of the image.
fn segment(bytes: &[u8], mut at: usize) -> Option<(u8, &[u8], usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xFF)?;
        at += bytes.get(at..)?.iter().position(|byte| *byte != 0xFF)?;
        let marker = bytes[at];
        at += 1;
        match marker {
            0xD9 => return None,
            0x00 | 0x01 | 0xD0..=0xD8 => continue,
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)).max(2);
        return Some((marker, bytes.get(at + 2..at + length)?, at + length));
    }
}

impl Headers {
    fn frame(&mut self, segment: &[u8]) -> Option<()> {
        let [8, h1, h2, w1, w2, count, ..] = *segment else {
            return None;
        };
        self.height = u16::from_be_bytes([h1, h2]).into();
        self.width = u16::from_be_bytes([w1, w2]).into();
        let entries = segment
            .get(6..6 + 3 * usize::from(count))?
            .as_chunks::<3>()
            .0;
        let component = |entry: &[u8; 3]| Component {
            id: entry[0],
            across: usize::from(entry[1] >> 4),
            down: usize::from(entry[1] & 15),
        };
        self.components = entries.iter().map(component).collect();
        let sound = |c: &Component| (1..=4).contains(&c.across) && (1..=4).contains(&c.down);
        // A height of 0 means that it follows later in the file, which is not supported.
        (self.components.iter().all(sound) && self.width > 0 && self.height > 0).then_some(())
    }

    fn tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&class, rest)) = segment.split_first() {
            let (lengths, symbols) = rest.split_at_checked(16)?;
            let count = lengths.iter().map(|&length| usize::from(length)).sum();
            let (symbols, next) = symbols.split_at_checked(count)?;
            let tables = if class >> 4 == 0 {
                &mut self.dc
            } else {
                &mut self.ac
            };
            *tables.get_mut(usize::from(class & 15))? = Some(table(lengths, symbols)?);
            segment = next;
        }
        Some(())
    }

    /// Walks a scan; returns its length in bytes, or the number of blocks present and expected.
    #[allow(clippy::type_complexity)]
    fn scan(&self, segment: &[u8], data: &[u8]) -> Option<Result<usize, (usize, usize)>> {
        let (&count, rest) = segment.split_first()?;
        let entries = rest.get(..2 * usize::from(count))?.as_chunks::<2>().0;
        let mut parts = Vec::new();
        for [id, tables] in entries {
            let component = self
                .components
                .iter()
                .find(|component| component.id == *id)?;
            let dc = self.dc.get(usize::from(tables >> 4))?.as_ref()?;
            let ac = self.ac.get(usize::from(tables & 15))?.as_ref()?;
            parts.push((component, dc, ac));
        }
        let most = |side: fn(&Component) -> usize| self.components.iter().map(side).max();
        let (across, down) = (most(|c| c.across)?, most(|c| c.down)?);
        // A scan of a single component has no blocks that pad the other components.
        let (units, interleaved) = match parts[..] {
            [] => return None,
            [(component, ..)] => {
                let columns = (self.width * component.across).div_ceil(across).div_ceil(8);
                let rows = (self.height * component.down).div_ceil(down).div_ceil(8);
                (columns * rows, false)
            }
            _ => (
                self.width.div_ceil(8 * across) * self.height.div_ceil(8 * down),
                true,
            ),
        };
        let mut bits = Bits::new(data);
        for unit in 0..units {
            if self.restart > 0 && unit > 0 && unit % self.restart == 0 {
                bits.restart();
            }
            for (component, dc, ac) in &parts {
                let blocks = if interleaved {
                    component.across * component.down
                } else {
                    1
                };
                for _ in 0..blocks {
                    if bits.block(dc, ac).is_none() {
                        return Some(Err((unit, units)));
                    }
                }
            }
        }
        Some(Ok(bits.at))
    }
}

fn table(lengths: &[u8], symbols: &[u8]) -> Option<Table> {
    let mut table = vec![0u16; 1 << 16].into_boxed_slice();
    let (mut code, mut symbols) = (0usize, symbols.iter());
    for (length, &count) in (1..=16u16).zip(lengths) {
        for _ in 0..count {
            let symbol = *symbols.next()?;
            let step = 1usize << (16 - length);
            table
                .get_mut(code..code + step)?
                .fill(length << 8 | u16::from(symbol));
            code += step;
        }
    }
    Some(table)
}

/// The bits of compressed data up to the next marker.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    held: u32,
    count: u32,
    /// Number of zero bits appended after the end.
    borrowed: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            held: 0,
            count: 0,
            borrowed: 0,
        }
    }

    /// Buffers 16 bits; after the end they are zeros.
    fn fill(&mut self) {
        while self.count <= 16 {
            let byte = match self.data.get(self.at..) {
                Some([0xFF, 0x00, ..]) => {
                    self.at += 2;
                    0xFF
                }
                Some([0xFF, ..]) | Some([]) | None => {
                    self.borrowed += 8;
                    0
                }
                Some([byte, ..]) => {
                    self.at += 1;
                    *byte
                }
            };
            self.held = self.held << 8 | u32::from(byte);
            self.count += 8;
        }
    }

    /// Consumes bits; `None` after the end.
    fn take(&mut self, bits: u32) -> Option<()> {
        self.count -= bits;
        (self.count >= self.borrowed).then_some(())
    }

    fn symbol(&mut self, table: &Table) -> Option<u8> {
        self.fill();
        let entry = table[(self.held >> (self.count - 16)) as usize & 0xFFFF];
        let length = u32::from(entry >> 8);
        if length == 0 {
            return None;
        }
        self.take(length)?;
        Some(entry as u8)
    }

    fn skip(&mut self, bits: u32) -> Option<()> {
        self.fill();
        self.take(bits.min(16))
    }

    fn block(&mut self, dc: &Table, ac: &Table) -> Option<()> {
        let size = self.symbol(dc)?;
        self.skip(size.into())?;
        let mut index = 1;
        while index < 64 {
            let symbol = self.symbol(ac)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            match (run, size) {
                (15, 0) => index += 16,
                (_, 0) => break,
                _ => {
                    self.skip(size)?;
                    index += run + 1;
                }
            }
        }
        Some(())
    }

    /// Skips a restart marker.
    fn restart(&mut self) {
        (self.held, self.count, self.borrowed) = (0, 0, 0);
        while let Some([0xFF, marker, ..]) = self.data.get(self.at..) {
            match marker {
                0xD0..=0xD7 => {
                    self.at += 2;
                    return;
                }
                0xFF => self.at += 1,
                _ => return,
            }
        }
    }
}
