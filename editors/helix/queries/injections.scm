; Marks such as TODO, where the editor has a grammar for comments.
((comment) @injection.content
  (#set! injection.language "comment"))
