package main

import (
	"go/ast"
	"go/token"
)

// cyclomatic is McCabe's number as gocyclo counts it: one, and one for each if, loop, case and
// joined term.
func cyclomatic(body ast.Node) int {
	n := 1
	ast.Inspect(body, func(node ast.Node) bool {
		switch x := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if x.List != nil {
				n++
			}
		case *ast.CommClause:
			if x.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if x.Op == token.LAND || x.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

// cognitive is the cognitive complexity (G. A. Campbell, SonarSource 2018) as gocognit counts it:
// one for each break in the flow, one more for each level it is nested, one for each run of equal
// joining operators.
func cognitive(d *ast.FuncDecl) int {
	v := &cognitiveVisitor{name: d.Name.Name}
	ast.Walk(v, d.Body)
	return v.sum
}

type cognitiveVisitor struct {
	name    string
	sum     int
	nesting int
	elses   map[ast.Node]bool // if statements that are another's else
	counted map[ast.Node]bool // binary expressions that are part of a counted run
}

func (v *cognitiveVisitor) Visit(n ast.Node) ast.Visitor {
	switch x := n.(type) {
	case *ast.IfStmt:
		return v.ifStatement(x)
	case *ast.ForStmt:
		return v.nested(x.Body, x.Init, x.Cond, x.Post)
	case *ast.RangeStmt:
		return v.nested(x.Body, x.X)
	case *ast.SwitchStmt:
		return v.nested(x.Body, x.Init, x.Tag)
	case *ast.TypeSwitchStmt:
		return v.nested(x.Body, x.Init, x.Assign)
	case *ast.SelectStmt:
		return v.nested(x.Body)
	// A function literal is nested, but it is no break in the flow by itself.
	case *ast.FuncLit:
		v.nesting++
		ast.Walk(v, x.Body)
		v.nesting--
		return nil
	// break and continue cost nothing, but with a label they leave more than one level.
	case *ast.BranchStmt:
		if x.Label != nil {
			v.sum++
		}
	case *ast.BinaryExpr:
		v.runs(x)
	}
	return v
}

func (v *cognitiveVisitor) ifStatement(x *ast.IfStmt) ast.Visitor {
	// else if is read as one more case of the same decision, not as nested.
	if v.elses[x] {
		v.sum++
	} else {
		v.sum += 1 + v.nesting
	}

	v.walk(x.Init, x.Cond)

	v.nesting++
	ast.Walk(v, x.Body)
	v.nesting--

	switch other := x.Else.(type) {
	case *ast.IfStmt:
		if v.elses == nil {
			v.elses = make(map[ast.Node]bool)
		}
		v.elses[other] = true
		ast.Walk(v, other)
	case *ast.BlockStmt:
		v.sum++
		v.nesting++
		ast.Walk(v, other)
		v.nesting--
	}
	return nil
}

// nested counts a statement whose body is one level deeper than its head.
func (v *cognitiveVisitor) nested(body ast.Node, head ...ast.Node) ast.Visitor {
	v.sum += 1 + v.nesting
	v.walk(head...)
	v.nesting++
	ast.Walk(v, body)
	v.nesting--
	return nil
}

func (v *cognitiveVisitor) walk(nodes ...ast.Node) {
	for _, n := range nodes {
		switch x := n.(type) {
		case ast.Expr:
			if x != nil {
				ast.Walk(v, x)
			}
		case ast.Stmt:
			if x != nil {
				ast.Walk(v, x)
			}
		}
	}
}

// runs counts the runs of equal operators in a condition, in the order of the source.
func (v *cognitiveVisitor) runs(x *ast.BinaryExpr) {
	// A run is counted at its topmost expression: the walk meets its parts again.
	if v.counted[x] || x.Op != token.LAND && x.Op != token.LOR {
		return
	}
	if v.counted == nil {
		v.counted = make(map[ast.Node]bool)
	}

	var operators []token.Token
	var collect func(ast.Expr)
	collect = func(e ast.Expr) {
		switch e := e.(type) {
		case *ast.BinaryExpr:
			if e.Op != token.LAND && e.Op != token.LOR {
				return
			}
			v.counted[e] = true
			collect(e.X)
			operators = append(operators, e.Op)
			collect(e.Y)
		case *ast.ParenExpr:
			collect(e.X)
		}
	}
	collect(x)

	last := token.ILLEGAL
	for _, op := range operators {
		if op != last {
			v.sum++
		}
		last = op
	}
}
