use super::*;

fn sorter(count: u32, length: usize) -> Result<Sorter, ContentsError> {
    let mut sorter = Sorter::default();
    for n in 0..count {
        let mut path = format!("{n:08}").into_bytes();
        path.resize(length, b'x');
        let entry = Entry {
            path,
            ..Entry::default()
        };
        sorter.push(entry)?;
    }
    Ok(sorter)
}

#[test]
fn a_table_of_contents_out_of_proportion_is_refused() {
    assert!(sorter(1_000, 16_000).unwrap().finish().is_ok());
    let error = sorter(5_000, 16_000).unwrap_err();
    assert_eq!(error, ContentsError::Proportion);
    assert_eq!(
        error.to_string(),
        "the table of contents is too large: more than 32 MiB and 512 bytes for each entry"
    );
}

#[test]
fn a_path_repeated_too_often_is_refused() {
    let of = |count: u64| {
        let mut sorter = Sorter::default();
        for offset in 0..count {
            let entry = Entry {
                path: b"same".to_vec(),
                offset,
                ..Entry::default()
            };
            sorter.push(entry).unwrap();
        }
        sorter.finish()
    };
    let (blocks, _) = of(7_000).unwrap();
    assert!(blocks.len() > 3);
    assert_eq!(of(8_000).unwrap_err(), ContentsError::Path);
}

#[test]
fn contents_blocks_are_bounded_by_weight() {
    let mut sorter = Sorter::default();
    for number in 0..200_u64 {
        // Each path comes ten times.
        let value = vec![b'v'; 60_000];
        let entry = Entry {
            path: format!("{:03}", number / 10).into_bytes(),
            offset: number,
            attributes: vec![(b"user.x".to_vec(), value)],
            omitted: number % 3,
            ..Entry::default()
        };
        sorter.push(entry).unwrap();
    }
    let (_, bytes) = sorter.finish().unwrap();
    let mut read = 0;
    for block in bytes {
        assert!(block.capacity() == block.len());
        let entries = unpack(&block).unwrap();
        let weight: usize = entries.iter().map(Entry::weight).sum();
        assert!(weight < 2 * BLOCK_BYTES + 64 * 1024, "{weight}");
        for entry in entries {
            assert_eq!((entry.offset, entry.omitted), (read, read % 3));
            read += 1;
        }
    }
    assert_eq!(read, 200);
}

#[test]
fn many_runs_are_merged_before_the_end() {
    let mut sorter = Sorter::default();
    for index in 0..90_000 {
        let path = format!("{:05}{}", index * 7_919 % 90_000, "/path".repeat(100));
        let entry = Entry {
            path: path.into_bytes(),
            offset: index,
            ..Entry::default()
        };
        sorter.push(entry).unwrap();
        assert!(sorter.levels.iter().all(|level| level.len() < FAN));
        if index == 80_000 {
            let mut saved = Vec::new();
            let blocks = sorter.save(&mut saved);
            let mut lengths = Vec::new();
            sorter = Sorter::load(&mut WireReader(&saved), &mut lengths).unwrap();
            assert!(lengths.iter().copied().eq(blocks.iter().map(Vec::len)));
            for (room, block) in sorter.blocks_from_last().zip(blocks.into_iter().rev()) {
                *room = block;
            }
        }
    }
    assert_eq!(sorter.levels.len(), 2);
    assert_eq!(sorter.entries(), 90_000);
    let (blocks, bytes) = sorter.finish().unwrap();
    assert_eq!(blocks.len(), bytes.len());
    let entries = bytes.iter().flat_map(|block| unpack(block).unwrap());
    let paths = entries.map(|entry| entry.path[..5].to_vec());
    let wanted = (0..90_000).map(|index| format!("{index:05}").into_bytes());
    assert!(paths.eq(wanted));
}
