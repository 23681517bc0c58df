" Vim syntax file
" Language: mesh, the policies of meshc
" The lists of words are written by editors/generate/run, from editors/words.json.

if exists("b:current_syntax")
  finish
endif
let s:cpo = &cpo
set cpo&vim

syntax case match

" Later items win where two match at one place. A word ends where none of its characters follows: letters, digits and
" ._:/%, and a hyphen that is not that of an arrow.
syntax match meshName /\v[[:alnum:]_.:\/%-]@1<!\a%(\w|-+\w)*/
syntax match meshAddress /\v[[:alnum:]_.:\/%-]@1<!%(\d|[[:alnum:]_.-]*:)@=[[:alnum:]_.:\/%]+%(-+[[:alnum:]_.:\/%]+)*/
syntax match meshNumber /\v[[:alnum:]_.:\/%-]@1<!\d+%(-+\d+)?%([[:alnum:]_.:\/%]|-\>@!)@!/

" words: statement
syntax match meshStatement /\v[[:alnum:]_.:\/%-]@1<!%(accelerate|exempt|for|group|import|mesh|on|set|test|workload)%([[:alnum:]_.:\/%]|-\>@!)@!/
" words: verb
syntax match meshVerb /\v[[:alnum:]_.:\/%-]@1<!%(deny|exclude|redirect)%([[:alnum:]_.:\/%]|-\>@!)@!/
" words: modifier
syntax match meshModifier /\v[[:alnum:]_.:\/%-]@1<!%(all|always|local|node|transparent)%([[:alnum:]_.:\/%]|-\>@!)@!/
" words: direction
syntax match meshDirection /\v[[:alnum:]_.:\/%-]@1<!%(inbound|outbound)%([[:alnum:]_.:\/%]|-\>@!)@!/
" words: protocol
syntax match meshProtocol /\v[[:alnum:]_.:\/%-]@1<!%(any|tcp|udp)%([[:alnum:]_.:\/%]|-\>@!)@!/
" words: selector
syntax match meshSelector /\v[[:alnum:]_.:\/%-]@1<!%(address|cgroup|gid|interface|label|namespace|namespace-label|pod|service|service-account|uid)%([[:alnum:]_.:\/%]|-\>@!)@!/
" words: joint
syntax match meshJoint /\v[[:alnum:]_.:\/%-]@1<!%(and|as|by|from|is|not|to|within)%([[:alnum:]_.:\/%]|-\>@!)@!/
" words: event
syntax match meshEvent /\v[[:alnum:]_.:\/%-]@1<!%(failed-attach|missing-sidecar|pass|refuse|start)%([[:alnum:]_.:\/%]|-\>@!)@!/
" words: verdict
syntax match meshVerdict /\v[[:alnum:]_.:\/%-]@1<!%(accelerated|denied|excluded|redirected)%([[:alnum:]_.:\/%]|-\>@!)@!/

syntax match meshOperator /->\|<->\|=/
syntax match meshDelimiter /[][{},;]/

" What is declared.
syntax match meshDeclared contained /\v\a%(\w|-+\w)*/
syntax match meshDeclares nextgroup=meshDeclared skipwhite
      \ /\v[[:alnum:]_.:\/%-]@1<!%(mesh|workload|group|set)%([ \t]+\a%(\w|-+\w)*%([[:alnum:]_.:\/%]|-\>@!)@!%([ \t]*%([={]|$))@=)@=/

" A service's name, the key of a label and its values may be any words.
syntax match meshServiceName contained /\v%(<service[ \t]+)@20<=[[:alnum:]][[:alnum:]_.:\/%-]*/
syntax match meshService transparent contains=meshSelector,meshServiceName
      \ /\v[[:alnum:]_.:\/%-]@1<!service[ \t]+[[:alnum:]]%([[:alnum:]_.:\/%]|-\>@!)*/
syntax match meshValue contained /\v[[:alnum:]][[:alnum:]_.\/-]*/
syntax match meshKey contained nextgroup=meshEquals skipwhite /\v"[^"]*"|[[:alnum:]][[:alnum:]_.\/-]*/
syntax match meshEquals contained nextgroup=meshList,meshItems skipwhite skipnl /=/
syntax match meshItems contained contains=meshValue,meshString,meshDelimiter,meshComment
      \ /\v[^][;}#,[:space:]]@=%([^][;}#",]|"[^"]*")*%(,%([ \t]*%(#.*)?\n\s*)?%([^][;}#",]|"[^"]*")*)*/
syntax region meshList contained matchgroup=meshDelimiter start=/\[/ end=/\v\]|[;}]@=/
      \ contains=meshValue,meshString,meshDelimiter,meshComment
syntax match meshSelects nextgroup=meshKey skipwhite
      \ /\v[[:alnum:]_.:\/%-]@1<!%(namespace-)?label%([ \t]+["[:alnum:]])@=/
syntax match meshSelects nextgroup=meshList,meshItems skipwhite
      \ /\v%(^|[{;[:space:]])@1<=%(namespace|service-account|pod)%([ \t]+["[[:alnum:]])@=/

syntax match meshUnclosed /"[^"{]*/
syntax match meshString /"[^"]*"/
syntax match meshComment /#.*/ contains=meshTodo,meshDirective,@Spell
syntax keyword meshTodo contained TODO FIXME XXX
syntax match meshDirective contained /\v(#+[ \t]*)@<=meshc:.*/

" What spans lines is short: lists of values, and none other.
syntax sync minlines=200

highlight default link meshStatement Statement
highlight default link meshDeclares Statement
highlight default link meshVerb Function
highlight default link meshModifier StorageClass
highlight default link meshDirection StorageClass
highlight default link meshProtocol Type
highlight default link meshSelector Label
highlight default link meshSelects Label
highlight default link meshJoint Operator
highlight default link meshEvent Constant
highlight default link meshVerdict Constant
highlight default link meshNumber Number
highlight default link meshAddress Number
highlight default link meshName Identifier
highlight default link meshDeclared Structure
highlight default link meshServiceName String
highlight default link meshKey Identifier
highlight default link meshEquals Operator
highlight default link meshValue String
highlight default link meshString String
highlight default link meshUnclosed Error
highlight default link meshOperator Operator
highlight default link meshDelimiter Delimiter
highlight default link meshComment Comment
highlight default link meshTodo Todo
highlight default link meshDirective PreProc

let b:current_syntax = "mesh"
let &cpo = s:cpo
unlet s:cpo
