"""Label graphs that ship with mlverify, derived from WordNet (see WORDNET-LICENSE.txt)."""
