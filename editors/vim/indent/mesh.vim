" Language: mesh, the policies of meshc
" As deep as `meshc fmt` indents: blocks, lists in brackets, and lines that go on with the one before.

if exists("b:did_indent")
  finish
endif
let b:did_indent = 1

setlocal indentexpr=MeshIndent(v:lnum)
setlocal indentkeys=0},0],o,O,0=->
setlocal nosmartindent
let b:undo_indent = "setlocal indentexpr< indentkeys< smartindent<"

if exists("*MeshIndent")
  finish
endif

" The line without strings and comments.
function s:Code(line) abort
  return substitute(substitute(a:line, '"[^"]*"', '""', 'g'), '#.*$', '', '')
endfunction

" The nearest line above that has code; 0 where none does.
function s:Above(lnum) abort
  let lnum = prevnonblank(a:lnum - 1)
  while lnum > 0 && s:Code(getline(lnum)) =~# '^\s*$'
    let lnum = prevnonblank(lnum - 1)
  endwhile
  return lnum
endfunction

" Whether a statement in no brackets goes on from one line to the next.
function s:GoesOn(above, below) abort
  return a:above =~# '\v%(,|\=|\<@<!-\>)\s*$' || a:below =~# '\v^\s*%(-\>|%(to|from|as|and)>-@!)'
endfunction

function s:Opened(code) abort
  let depth = 0
  for char in split(a:code, '\zs')
    if char ==# '{' || char ==# '['
      let depth += 1
    elseif (char ==# '}' || char ==# ']') && depth > 0
      let depth -= 1
    endif
  endfor
  return depth
endfunction

function s:Closed(code) abort
  let depth = 0
  let closed = 0
  for char in split(a:code, '\zs')
    if char ==# '{' || char ==# '['
      let depth += 1
    elseif char ==# '}' || char ==# ']'
      if depth > 0
        let depth -= 1
      else
        let closed += 1
      endif
    endif
  endfor
  return closed
endfunction

" Whether a bracket is open before the line. A list of which a hundred lines say nothing else has one.
function s:InBrackets(lnum) abort
  let depth = 0
  let lnum = s:Above(a:lnum)
  for _ in range(100)
    let code = lnum > 0 ? s:Code(getline(lnum)) : '{'
    if code =~# '[{}]'
      return 0
    endif
    let depth += count(code, '[') - count(code, ']')
    if depth > 0
      return 1
    endif
    if depth == 0 && code !~# '\v,\s*$' && code !~# ']'
      return 0
    endif
    let lnum = s:Above(lnum)
  endfor
  return 1
endfunction

function MeshIndent(lnum) abort
  let above = s:Above(a:lnum)
  if above == 0
    return 0
  endif
  let code = s:Code(getline(above))
  let here = s:Code(getline(a:lnum))
  let indent = indent(above)
  " A line that closes what others opened stands where they do, so that only what it opens counts.
  let indent += s:Opened(code) * shiftwidth()
  if s:Closed(code) > 0 && code !~# '^\s*[]}]'
    let indent -= s:Closed(code) * shiftwidth()
  endif
  if here =~# '^\s*[]}]'
    return max([indent - shiftwidth(), 0])
  endif
  let before = s:Above(above)
  let earlier = before > 0 ? s:Code(getline(before)) : ''
  " In the midst of a long list.
  if earlier . code !~# '[][{}]' && earlier =~# ',\s*$' && code =~# ',\s*$'
    return indent
  endif
  if s:Opened(code) == 0 && !s:InBrackets(a:lnum)
    let went_on = before > 0 && !s:InBrackets(above) && s:GoesOn(earlier, code)
    let goes_on = s:GoesOn(code, here)
    if goes_on && !went_on
      let indent += shiftwidth()
    elseif !goes_on && went_on
      let indent -= shiftwidth()
    endif
  endif
  return max([indent, 0])
endfunction
