use darts_host::data::{DataError, Dataset, Split};
use darts_kernels_simd::ImageShape;

/// Images of one pixel with these labels.
fn labelled(labels: &[u16]) -> Dataset {
    let names = (0..=*labels.iter().max().expect("labels")).map(|class| class.to_string()).collect();
    Dataset::new(ImageShape::new(1, 1, 1), (0..labels.len() as u8).collect(), labels.to_vec(), names)
}

fn counts(data: &Dataset, indices: &[usize]) -> Vec<usize> {
    data.subset(indices).class_counts()
}

#[test]
fn halves_are_by_index_unless_shuffled_and_miss_nothing() {
    let halves = Split::halves(7, None).expect("enough");
    assert_eq!(halves.first, [0, 1, 2]);
    assert_eq!(halves.second, [3, 4, 5, 6]);
    let shuffled = Split::halves(100, Some(3)).expect("enough");
    assert_eq!(shuffled, Split::halves(100, Some(3)).expect("enough"));
    assert_ne!(shuffled, Split::halves(100, Some(4)).expect("enough"));
    assert_eq!(shuffled.first.len(), 50);
    let mut all = [shuffled.first, shuffled.second].concat();
    assert!(!all.is_sorted());
    all.sort_unstable();
    assert!(all.into_iter().eq(0..100));
    for images in [0, 1] {
        assert!(matches!(Split::halves(images, None), Err(DataError::Split { .. })));
    }
}

#[test]
fn a_search_splits_by_index_unless_a_class_is_in_one_half_only() {
    let mixed: Vec<u16> = (0..60).map(|index| index % 3).collect();
    let by_index = Split::halves(60, None).expect("enough");
    assert_eq!(Split::for_search(&labelled(&mixed), 1).expect("enough"), by_index);

    // A class without any image is in neither.
    let without_1: Vec<u16> = (0..60).map(|index| index % 2 * 2).collect();
    assert_eq!(Split::for_search(&labelled(&without_1), 1).expect("enough"), by_index);

    let sorted: Vec<u16> = (0..60).map(|index| index / 20).collect();
    let sorted = labelled(&sorted);
    for seed in 0..10 {
        let halves = Split::for_search(&sorted, seed).expect("enough");
        assert_eq!(halves, Split::halves(60, Some(seed)).expect("enough"));
        for half in [&halves.first, &halves.second] {
            assert!(counts(&sorted, half).iter().all(|&count| count > 0));
        }
    }

    // Only the first, only the second half lacks a class.
    for at in [59, 0] {
        let mut one_alone = mixed.clone();
        one_alone[at] = 3;
        assert_ne!(Split::for_search(&labelled(&one_alone), 1).expect("enough"), by_index);
    }
    assert!(Split::for_search(&labelled(&[0]), 1).is_err());
}

#[test]
fn images_held_out_are_balanced_and_depend_on_the_seed() {
    let labels: Vec<u16> = (0..90).map(|index| index / 30).collect();
    let data = labelled(&labels);
    let split = Split::hold_out(&data, 15, 1).expect("enough");
    assert_eq!(counts(&data, &split.second), [5, 5, 5]);
    assert_eq!(counts(&data, &split.first), [25, 25, 25]);
    let mut all = [split.first.clone(), split.second.clone()].concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..90));
    assert_eq!(split, Split::hold_out(&data, 15, 1).expect("enough"));
    assert_ne!(split, Split::hold_out(&data, 15, 2).expect("enough"));
    for held_out in [0, 90, 91] {
        let message = Split::hold_out(&data, held_out, 1).expect_err("too few or too many").to_string();
        assert!(message.contains(&held_out.to_string()) && message.contains("90"), "{message}");
    }
}

#[test]
fn a_limit_takes_the_first_of_each_class_in_order() {
    let data = labelled(&[0, 0, 0, 1, 2, 1, 0, 2]);
    let pixels = |limit| data.limited(limit).images().to_vec();
    assert_eq!(pixels(3), [0, 3, 4]);
    assert_eq!(pixels(4), [0, 1, 3, 4]);
    assert_eq!(pixels(7), [0, 1, 2, 3, 4, 5, 7]);
    assert_eq!(pixels(100), [0, 1, 2, 3, 4, 5, 6, 7]);
}
