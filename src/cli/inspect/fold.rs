//! Many tensors in few lines: those whose names differ in numbers alone, and that are alike, share one.

use std::collections::{BTreeMap, BTreeSet};

use tensorseal::format::{Dtype, Tensor};

/// Tensors of one type and shape, under a name in which `{..}` stands for each of some numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    pub(super) count: u64,
    /// Bytes of all of them.
    pub(super) bytes: u64,
}

/// The numbers in a name, in their order.
type Numbers = Vec<u32>;
/// The numbers that may stand in each place, all combinations of them.
type Block = Vec<BTreeSet<u32>>;

/// Rows in the order in which their first tensors come. The tensors are exactly those that the rows stand for.
pub(super) fn fold<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<Row> {
    /// Tensors that are alike up to the numbers in their names.
    struct Alike<'a> {
        first: &'a Tensor,
        at: usize,
        numbers: BTreeSet<Numbers>,
    }
    let mut kinds: BTreeMap<_, Alike<'_>> = BTreeMap::new();
    for (at, tensor) in tensors.into_iter().enumerate() {
        let (pattern, numbers) = taken_apart(&tensor.name);
        let key = (pattern, tensor.dtype.name(), &tensor.shape);
        let alike = kinds.entry(key).or_insert_with(|| Alike { first: tensor, at, numbers: BTreeSet::new() });
        alike.numbers.insert(numbers);
    }
    let mut rows = Vec::new();
    for ((pattern, ..), Alike { first, at, numbers }) in kinds {
        for block in blocks(&numbers, pattern.len() - 1) {
            let count = block.iter().map(|set| set.len() as u64).product();
            let (dtype, shape, bytes) = (first.dtype, first.shape.clone(), first.bytes().saturating_mul(count));
            rows.push((at, Row { name: name(&pattern, &block), dtype, shape, count, bytes }));
        }
    }
    rows.sort_by_key(|(at, _)| *at);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// A name as the texts around its numbers, of which there is one more, and these. A number is all that stands between two
/// dots, and has one spelling.
fn taken_apart(name: &str) -> (Vec<String>, Numbers) {
    let (mut pattern, mut numbers) = (vec![String::new()], Numbers::new());
    for (i, part) in name.split('.').enumerate() {
        let dot = if i == 0 { "" } else { "." };
        let number = part.parse().ok().filter(|number: &u32| number.to_string() == part);
        if let Some(last) = pattern.last_mut() {
            last.push_str(dot);
            if number.is_none() {
                last.push_str(part);
            }
        }
        if let Some(number) = number {
            numbers.push(number);
            pattern.push(String::new());
        }
    }
    (pattern, numbers)
}

/// The same tuples of `len` numbers as few blocks: those that begin with numbers behind which the same follows, together.
fn blocks(tuples: &BTreeSet<Numbers>, len: usize) -> Vec<Block> {
    if len == 0 {
        return vec![Block::new()];
    }
    let mut rests: BTreeMap<u32, BTreeSet<Numbers>> = BTreeMap::new();
    for tuple in tuples {
        if let Some((first, rest)) = tuple.split_first() {
            rests.entry(*first).or_default().insert(rest.to_vec());
        }
    }
    let mut together: BTreeMap<BTreeSet<Numbers>, BTreeSet<u32>> = BTreeMap::new();
    for (first, rest) in rests {
        together.entry(rest).or_default().insert(first);
    }
    let mut all = Vec::new();
    for (rest, first) in together {
        for block in blocks(&rest, len - 1) {
            all.push([vec![first.clone()], block].concat());
        }
    }
    all.sort();
    all
}

fn name(pattern: &[String], block: &Block) -> String {
    let mut name = String::new();
    for (i, text) in pattern.iter().enumerate() {
        name.push_str(text);
        if let Some(numbers) = block.get(i) {
            name.push_str(&ranges(numbers));
        }
    }
    name
}

/// `7`, `{0..31}`, `{0..2,5,7..9}`.
fn ranges(numbers: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = |&(first, last): &(u32, u32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}..{last}"),
    };
    let text = ranges.iter().map(text).collect::<Vec<_>>().join(",");
    if numbers.len() == 1 { text } else { format!("{{{text}}}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[u64]) -> Tensor {
        let dtype = Dtype::from_safetensors("F16").unwrap();
        let bytes = 2 * shape.iter().product::<u64>();
        Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), range: 0..bytes }
    }

    fn folded(names: &[String]) -> Vec<(String, u64)> {
        let tensors: Vec<_> = names.iter().map(|name| tensor(name, &[2])).collect();
        fold(&tensors).into_iter().map(|row| (row.name, row.count)).collect()
    }

    #[test]
    fn layers_and_experts_share_a_row() {
        let mut names = vec!["embed".to_owned()];
        for layer in 0..61 {
            names.push(format!("layers.{layer}.norm"));
            // The first three layers are dense.
            if layer < 3 {
                names.push(format!("layers.{layer}.up"));
            } else {
                names.extend((0..256).map(|expert| format!("layers.{layer}.experts.{expert}.up")));
            }
        }
        let row = |name: &str, count| (name.to_owned(), count);
        assert_eq!(
            folded(&names),
            [
                row("embed", 1),
                row("layers.{0..60}.norm", 61),
                row("layers.{0..2}.up", 3),
                row("layers.{3..60}.experts.{0..255}.up", 58 * 256),
            ]
        );
    }

    #[test]
    fn a_row_stands_for_no_tensor_that_is_not_there() {
        let names = [
            "a.0.0", "a.0.1", "a.1.0", "a.1.1", "a.2.1", "a.5.0", "a.5.1", "a.00.1", "a.0x", "7", "a..1", "b.3", "b.4",
        ];
        let names = names.map(str::to_owned);
        let rows = folded(&names);
        assert_eq!(rows.iter().map(|(_, count)| count).sum::<u64>(), names.len() as u64);
        let shown: Vec<_> = rows.iter().map(|(name, _)| &**name).collect();
        assert_eq!(shown, ["a.{0,1,5}.{0,1}", "a.2.1", "a.00.1", "a.0x", "7", "a..1", "b.{3,4}"]);
    }

    #[test]
    fn only_what_is_alike_shares_a_row() {
        let tensors = [tensor("l.0.w", &[2, 3]), tensor("l.1.w", &[2, 3]), tensor("l.2.w", &[3, 2])];
        let rows = fold(&tensors);
        assert_eq!(rows.len(), 2);
        assert_eq!((&*rows[0].name, rows[0].count, rows[0].bytes), ("l.{0,1}.w", 2, 24));
        assert_eq!((&*rows[1].name, &rows[1].shape[..]), ("l.2.w", &[3, 2][..]));
    }

    #[test]
    fn ranges_are_short() {
        for (numbers, text) in [
            (&[7][..], "7"),
            (&[0, 1], "{0,1}"),
            (&[0, 1, 2, 5, 7, 8, 9], "{0..2,5,7..9}"),
            (&[0, u32::MAX], "{0,4294967295}"),
        ] {
            assert_eq!(ranges(&numbers.iter().copied().collect()), text);
        }
    }
}
