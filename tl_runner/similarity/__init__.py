"""How far two sets of features are apart, as a number and as a picture: pure functions of arrays
that import nothing of ours."""
