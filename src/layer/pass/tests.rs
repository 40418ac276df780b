use super::*;

#[test]
fn a_pass_without_a_diff_id_ends_only_with_a_given_one() {
    let layer = [0; 1024];
    let mut pass = Pass::without_diff_id(1024, Options::default());
    pass.push(&layer).unwrap();
    let error = pass.finish().unwrap_err();
    assert_eq!(error, PassError::DiffId);
    assert!(pass.finish_as([7; 32]).is_ok());
}
