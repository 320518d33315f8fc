"""The queries of full-text searches, in Lucene's syntax: a Lark grammar, and matching against texts."""
