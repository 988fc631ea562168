// The operators' tables of functions, and their shape inference.
#include "operators.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "counters.h"
#include "depthwise_node.h"
#include "geometry.h"
#include "layer.h"
#include "ort_call.h"
#include "pool_node.h"
#include "table_node.h"

namespace crisp {
namespace {

// A dimension is a size, or -1 and a name (empty when the file gives none).
struct Shape {
  std::vector<int64_t> sizes;
  std::vector<const char*> names;
};

// Makes the input's shape the output's.
using OutputShape = void (*)(const ort::Api*, const ort::ShapeContext*, Shape*);

// One operator: what it is, and the functions of the class that runs its nodes.
struct Row {
  OperatorForm form;
  OutputShape output_shape;
  ort::Status* (*create)(const ort::CustomOp*, const ort::Api*, const ort::KernelInfo*, void** kernel);
  ort::Status* (*compute)(void* kernel, ort::KernelContext*);
  void (*destroy)(void* kernel);
};

struct Operator : ort::CustomOp {
  Row row;
};

const Operator& self(const ort::CustomOp* op) { return *static_cast<const Operator*>(op); }

std::atomic<const ort::Api*> shape_api{nullptr};

template <class Node>
Node* made(const ort::Api* api, const ort::KernelInfo* info, const OperatorForm&) {
  return new Node(api, info);
}

template <>
Layer* made<Layer>(const ort::Api* api, const ort::KernelInfo* info, const OperatorForm& form) {
  return new Layer(api, info, form);
}

template <class Node>
ort::Status* create(const ort::CustomOp* op, const ort::Api* api, const ort::KernelInfo* info, void** kernel) {
  *kernel = nullptr;
  return ort::guarded(api, [&] { return ort::node_name(api, info); }, [&] {
    *kernel = made<Node>(api, info, self(op).row.form);
    count_prepared_layer();
  });
}

template <class Node>
ort::Status* compute(void* kernel, ort::KernelContext* context) {
  Node* node = static_cast<Node*>(kernel);
  return ort::guarded(node->api(), [&] { return node->name(); }, [&] { node->run(context); });
}

template <class Node>
void destroy(void* kernel) {
  delete static_cast<Node*>(kernel);
}

int activation_type(const Operator& op) { return op.row.form.element == Element::kFloat32 ? ort::kFloat : ort::kUint8; }

std::vector<int64_t> integers(const ort::Api* api, const ort::ShapeContext* context, const char* name) {
  const ort::Attribute* attribute = nullptr;
  std::vector<int64_t> values(8);
  size_t bytes = 0;
  ort::check(api, api->ShapeInferContext_GetAttribute(context, name, &attribute));
  ort::check(api, api->ReadOpAttr(attribute, ort::kAttributeInts, values.data(), values.size() * 8, &bytes));
  values.resize(bytes / 8);
  return values;
}

Shape input_shape(const ort::Api* api, const ort::ShapeContext* context) {
  ort::TensorInfo* info = nullptr;  // stays the context's
  size_t rank = 0;
  ort::check(api, api->ShapeInferContext_GetInputTypeShape(context, 0, &info));
  ort::check(api, api->GetDimensionsCount(info, &rank));
  Shape shape{std::vector<int64_t>(rank), std::vector<const char*>(rank, "")};
  ort::check(api, api->GetDimensions(info, shape.sizes.data(), rank));
  ort::check(api, api->GetSymbolicDimensions(info, shape.names.data(), rank));
  return shape;
}

// `weight` (Cout, Cin, kh, kw).
void window_output(const ort::Api* api, const ort::ShapeContext* context, const std::vector<int64_t>& weight,
                   const std::vector<int64_t>& dilations, Shape* shape) {
  ConvAttributes a;
  const std::vector<int64_t> strides = integers(api, context, "strides"), pads = integers(api, context, "pads");
  std::vector<int64_t>& x = shape->sizes;
  require(x.size() == 4 && weight.size() == 4 && strides.size() == 2 && pads.size() == 4 && dilations.size() == 2,
          "shapes do not fit");
  require(x[2] > 0 && x[3] > 0, "the input's height and width are open");
  std::copy(strides.begin(), strides.end(), a.strides);
  std::copy(pads.begin(), pads.end(), a.pads);
  std::copy(dilations.begin(), dilations.end(), a.dilations);
  check_attributes(a);
  const ConvShape s = conv_shape(a, weight[0], 1, weight[2], weight[3], 1, x[2], x[3]);
  x[1] = s.cout;
  x[2] = s.out_height;
  x[3] = s.out_width;
}

void conv_output(const ort::Api* api, const ort::ShapeContext* context, Shape* shape) {
  window_output(api, context, integers(api, context, "weight_shape"), integers(api, context, "dilations"), shape);
}

void gemm_output(const ort::Api* api, const ort::ShapeContext* context, Shape* shape) {
  require(!shape->sizes.empty(), "X has no dimensions");
  shape->sizes.back() = integers(api, context, "weight_shape").at(0);
}

// Of a window over each channel for itself.
void planes_output(const ort::Api* api, const ort::ShapeContext* context, const std::vector<int64_t>& dilations,
                   Shape* shape) {
  const std::vector<int64_t> kernel = integers(api, context, "kernel_shape");
  require(kernel.size() == 2 && shape->sizes.size() == 4, "shapes do not fit");
  const int64_t channels = shape->sizes[1];
  window_output(api, context, {1, 1, kernel[0], kernel[1]}, dilations, shape);
  shape->sizes[1] = channels;
}

void pool_output(const ort::Api* api, const ort::ShapeContext* context, Shape* shape) {
  planes_output(api, context, {1, 1}, shape);
}

void depthwise_output(const ort::Api* api, const ort::ShapeContext* context, Shape* shape) {
  planes_output(api, context, integers(api, context, "dilations"), shape);
}

// Every byte stays where it is.
void same_output(const ort::Api*, const ort::ShapeContext*, Shape*) {}

template <class Node>
constexpr Row row_of(const OperatorForm& form, OutputShape output_shape) {
  return {form, output_shape, create<Node>, compute<Node>, destroy<Node>};
}

constexpr Row kRows[] = {
    row_of<Layer>({"HybridConv", Element::kFloat32, true, false, 5}, conv_output),
    row_of<Layer>({"HybridConvAdd", Element::kFloat32, true, true, 6}, conv_output),
    row_of<Layer>({"HybridGemm", Element::kFloat32, false, false, 5}, gemm_output),
    row_of<Layer>({"HybridQConv", Element::kInt8, true, false, 10}, conv_output),
    row_of<Layer>({"HybridQConvAdd", Element::kInt8, true, true, 13}, conv_output),
    row_of<Layer>({"HybridQGemm", Element::kInt8, false, false, 10}, gemm_output),
    row_of<PoolNode>({"QMaxPool", Element::kInt8, false, false, 1}, pool_output),
    row_of<DepthwiseNode>({"QDepthwiseConv", Element::kInt8, true, false, 8}, depthwise_output),
    row_of<TableNode>({"QTable", Element::kInt8, false, false, 2}, same_output),
};

// The runtime ignores the returned status; without an inferred shape it goes by the file's value_info.
ort::Status* infer_shape(const ort::CustomOp* op, ort::ShapeContext* context) {
  const ort::Api* api = shape_api.load();
  return ort::guarded(api, [&] { return std::string(self(op).row.form.name); }, [&] {
    Shape shape = input_shape(api, context);
    self(op).row.output_shape(api, context, &shape);
    for (size_t i = 0; i < shape.sizes.size(); ++i) {
      if (shape.sizes[i] >= 0) {
        shape.names[i] = "";
      } else {
        require(*shape.names[i], "an open dimension has no name to pass on");
      }
    }
    ort::TensorInfo* info = nullptr;
    ort::check(api, api->CreateTensorTypeAndShapeInfo(&info));
    ort::Status* status = api->SetTensorElementType(info, activation_type(self(op)));
    if (!status) status = api->SetDimensions(info, shape.sizes.data(), shape.sizes.size());
    if (!status) status = api->SetSymbolicDimensions(info, shape.names.data(), shape.names.size());
    if (!status) status = api->ShapeInferContext_SetOutputTypeShape(context, 0, info);
    api->ReleaseTensorTypeAndShapeInfo(info);
    ort::check(api, status);
  });
}

// Every kernel reads an element of the residual right before it writes the output's, so one buffer can serve both.
template <int Residual>
size_t residual_in_place(int** inputs, int** outputs) {
  static int residual = Residual, output = 0;
  *inputs = &residual;
  *outputs = &output;
  return 1;
}

Operator make_operator(const Row& row, uint32_t version) {
  Operator op{};
  op.row = row;
  op.version = version;
  op.GetName = [](const ort::CustomOp* o) { return self(o).row.form.name; };
  op.GetExecutionProviderType = [](const ort::CustomOp*) -> const char* { return nullptr; };
  op.GetInputType = [](const ort::CustomOp*, size_t) -> int { return ort::kUndefined; };
  op.GetInputTypeCount = [](const ort::CustomOp* o) { return self(o).row.form.inputs; };
  op.GetOutputType = [](const ort::CustomOp* o, size_t) -> int { return activation_type(self(o)); };
  op.GetOutputTypeCount = [](const ort::CustomOp*) -> size_t { return 1; };
  op.KernelDestroy = row.destroy;
  op.GetInputCharacteristic = [](const ort::CustomOp*, size_t i) -> int { return i ? ort::kOptional : ort::kRequired; };
  op.GetOutputCharacteristic = [](const ort::CustomOp*, size_t) -> int { return ort::kRequired; };
  op.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return 0; };
  op.GetVariadicInputMinArity = [](const ort::CustomOp*) { return 0; };
  op.GetVariadicInputHomogeneity = [](const ort::CustomOp*) { return 0; };
  op.GetVariadicOutputMinArity = [](const ort::CustomOp*) { return 0; };
  op.GetVariadicOutputHomogeneity = [](const ort::CustomOp*) { return 0; };
  op.CreateKernelV2 = row.create;
  op.KernelComputeV2 = row.compute;
  op.InferOutputShapeFn = infer_shape;
  if (row.form.add) {
    op.GetMayInplace = row.form.element == Element::kFloat32 ? residual_in_place<5> : residual_in_place<10>;
    op.ReleaseMayInplace = [](int*, int*) {};
  }
  return op;
}

const std::vector<Operator>& made_operators(uint32_t version) {
  static const std::vector<Operator> made = [version] {
    std::vector<Operator> operators;
    for (const Row& row : kRows) operators.push_back(make_operator(row, version));
    return operators;
  }();
  return made;
}

}  // namespace

const ort::CustomOp* const* operators(uint32_t version, int* count) {
  static const std::vector<const ort::CustomOp*> all = [version] {
    std::vector<const ort::CustomOp*> found;
    for (const Operator& op : made_operators(version)) found.push_back(&op);
    return found;
  }();
  *count = static_cast<int>(all.size());
  return all.data();
}

const char* operator_name(int index) {
  constexpr int kCount = static_cast<int>(sizeof(kRows) / sizeof(kRows[0]));
  return index >= 0 && index < kCount ? kRows[index].form.name : nullptr;
}

void set_shape_api(const ort::Api* api) { shape_api.store(api); }

}  // namespace crisp
