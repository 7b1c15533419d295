"""What lanes of pytest share. Each finds it by the `pythonpath` of its pytest.ini."""
