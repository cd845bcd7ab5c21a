//! Ranges and partitions.

use super::*;

/// Sort keys in their order, with all that might upset it.
const SORTS: [&[u8]; 10] = [
    b"",
    b"\0",
    b"\0\0",
    b"\x01",
    b"a",
    b"a\0",
    b"aa",
    b"b",
    b"\xff",
    b"\xff\xff",
];

async fn write_sorts(h: &dyn Harness, partition: &[u8]) {
    for sort in SORTS.iter().rev() {
        write(h, partition, vec![set(sort, sort)]).await;
    }
}

pub async fn a_range_is_ordered_by_the_octets_of_the_sort_key(h: &dyn Harness) {
    write_sorts(h, b"p").await;
    let up = h.store().range(ONE, b"p", Range::all(100)).await.unwrap();
    assert_eq!(sorts(&up), SORTS);
    assert!(up.iter().all(|r| r.sort == r.value));
    let down = Range {
        reverse: true,
        ..Range::all(100)
    };
    let mut down = h.store().range(ONE, b"p", down).await.unwrap();
    down.reverse();
    assert_eq!(down, up);
}

pub async fn a_range_keeps_to_its_bounds_both_ways(h: &dyn Harness) {
    for partition in [&b"o"[..], b"p", b"q"] {
        write_sorts(h, partition).await;
    }
    let edges: [&[u8]; 5] = [b"", b"\0", b"a", b"ab", b"\xff"];
    let mut bounds: Vec<Bound<Bytes>> = vec![Bound::Unbounded];
    for edge in edges {
        bounds.extend([Bound::Included(bytes(edge)), Bound::Excluded(bytes(edge))]);
    }
    for from in &bounds {
        for to in &bounds {
            let within = (from.clone(), to.clone());
            let mut expected: Vec<&[u8]> = SORTS
                .into_iter()
                .filter(|s| within.contains(&bytes(s)))
                .collect();
            for reverse in [false, true] {
                let range = Range {
                    from: from.clone(),
                    to: to.clone(),
                    reverse,
                    limit: 100,
                };
                let rows = h.store().range(ONE, b"p", range).await.unwrap();
                assert_eq!(sorts(&rows), expected, "{from:?} {to:?} {reverse}");
                expected.reverse();
            }
        }
    }
}

pub async fn a_limit_counts_from_where_the_range_begins(h: &dyn Harness) {
    write_sorts(h, b"p").await;
    for limit in 1..=SORTS.len() + 1 {
        let n = limit.min(SORTS.len());
        let up = h.store().range(ONE, b"p", Range::all(limit)).await.unwrap();
        assert_eq!(sorts(&up), SORTS[..n]);
        let down = Range {
            reverse: true,
            ..Range::all(limit)
        };
        let mut down = h.store().range(ONE, b"p", down).await.unwrap();
        down.reverse();
        assert_eq!(sorts(&down), SORTS[SORTS.len() - n..]);
    }
    let many: Vec<Op> = (0..1_000_u32)
        .map(|i| set(&i.to_be_bytes(), b"v"))
        .collect();
    write(h, b"long", many).await;
    let page = Range {
        from: Bound::Excluded(bytes(&99_u32.to_be_bytes())),
        ..Range::all(500)
    };
    let page = h.store().range(ONE, b"long", page).await.unwrap();
    assert_eq!(
        (page.len(), &page[0].sort[..]),
        (500, &100_u32.to_be_bytes()[..])
    );
    assert_eq!(&page[499].sort[..], 599_u32.to_be_bytes());
}

pub async fn partitions_whose_keys_begin_alike_are_apart(h: &dyn Harness) {
    let partitions: [&[u8]; 9] = [
        b"a",
        b"a\0",
        b"a\0\0",
        b"ab",
        b"a\xff",
        b"\0",
        b"\0\x01",
        b"\xff",
        b"\xff\xff",
    ];
    for p in partitions {
        write(h, p, vec![set(b"", p), set(b"b", p), set(b"\xff", p)]).await;
    }
    for p in partitions {
        let expected = [&b""[..], b"b", b"\xff"].map(|s| (bytes(s), bytes(p)));
        assert_eq!(all(h, ONE, p).await, expected);
    }
    write(h, b"a", vec![Op::DeletePartition]).await;
    for p in partitions {
        assert_eq!(all(h, ONE, p).await.len(), if p == b"a" { 0 } else { 3 });
    }
}
