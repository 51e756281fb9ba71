//! Division of items among ranks.

use std::ops::Range;

/// Rank `rank`'s shard of `count` items: `world` shards of equal size, or with one more item in the first ones;
/// empty if there are more ranks than items.
pub fn shard(count: usize, rank: usize, world: usize) -> Range<usize> {
    let world = world.max(1);
    let start = |rank: usize| rank * (count / world) + rank.min(count % world);
    start(rank)..start(rank + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_everything_once() {
        for count in [0, 1, 3, 4, 7, 16] {
            for world in [1, 2, 3, 4, 8] {
                let parts: Vec<_> = (0..world).map(|rank| shard(count, rank, world)).collect();
                let all: Vec<usize> = parts.iter().cloned().flatten().collect();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
                let sizes: Vec<_> = parts.iter().map(|part| part.len()).collect();
                assert!(sizes[0] - sizes[world - 1] <= 1, "{sizes:?}");
            }
        }
        assert!(shard(2, 3, 4).is_empty());
    }
}
