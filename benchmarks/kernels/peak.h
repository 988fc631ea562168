// The multiply-add peak of one core.
#pragma once

#include "element.h"

// Multiply-adds of the element type a second, measured for about `seconds`, with the widest vectors this processor has.
// Of int8: with its dot products of four; without them as plain loops are compiled.
double measured_peak_macs_per_s(double seconds, crisp::Element element);
