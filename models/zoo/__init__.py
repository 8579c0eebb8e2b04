"""The networks and sample images that ship with mlverify (see README.md in this folder)."""
