(mesh body: (_) @class.inside) @class.around
(workload body: (_) @class.inside) @class.around
(for body: (_) @class.inside) @class.around
(test body: (_) @test.inside) @test.around

[(rule) (exempt) (selector) (expectation)] @entry.around

(comment) @comment.inside
(comment)+ @comment.around
