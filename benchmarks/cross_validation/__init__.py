"""Cross-validation: every method is pretrained, searched, trained and tested in each fold; see __main__.py."""
