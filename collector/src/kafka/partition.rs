//! Which partition a box is in: the function of Java's default partitioner, so
//! that JVM readers find a box where we put it. It never changes, and neither
//! does the partition count of a topic; else a box's events would be in two
//! partitions, without order and with half of its state in each.

/// Partition of a record with this key, of `count` partitions.
///
/// As `org.apache.kafka.clients.producer.internals.BuiltInPartitioner.
/// partitionForKey`: murmur2, made positive by clearing the sign, modulo.
#[must_use]
pub fn partition(key: &[u8], count: u32) -> i32 {
    // A topic has a partition at least; librdkafka's type for one is i32.
    let place = (murmur2(key) & 0x7fff_ffff) % count.max(1);
    i32::try_from(place).unwrap_or_default()
}

/// MurmurHash2 with the seed of `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Kafka's code takes the length as a 32-bit number as well.
    #[expect(clippy::cast_possible_truncation, reason = "keys are at most 64 bytes")]
    let length = data.len() as u32;
    let mut hash = SEED ^ length;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_what_kafkas_own_test_expects() {
        // org.apache.kafka.common.utils.UtilsTest.testMurmur2.
        for (key, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }

    #[test]
    fn partitions_are_positive_below_the_count_and_evenly_used() {
        const COUNT: u32 = 48;
        let mut boxes = [0_u32; COUNT as usize];
        for number in 0..48_000 {
            let place = partition(format!("box-{number:06}").as_bytes(), COUNT);
            boxes[usize::try_from(place).unwrap()] += 1;
        }
        // 1,000 expected each; six standard deviations of 31.
        assert!(boxes.iter().all(|count| (800..1_200).contains(count)));
    }

    #[test]
    fn a_negative_hash_clears_its_sign_as_java_does() {
        // "21" hashes to -973,932,308; without the sign bit 1,173,551,340.
        assert_eq!(partition(b"21", 48), 1_173_551_340 % 48);
        assert_eq!(partition(b"21", 1), 0);
    }
}
