use super::*;

#[test]
fn ends_with_no_diff_id_that_nobody_computed() {
    let layer = [0; 1024];
    let mut pass = Pass::without_diff_id(1024, Options::default());
    pass.push(&layer).unwrap();
    let error = pass.finish().unwrap_err();
    assert_eq!(error, PassError::DiffId);
    assert!(pass.finish_as([7; 32]).is_ok());
}
