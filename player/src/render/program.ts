// Shaders to programs.

import { InvError } from "../errors";

/**
 * Compile a program without blocking the page, where the browser can.
 *
 * @throws InvError - the driver refuses it.
 */
export async function compile(gl: WebGL2RenderingContext, vertices: string, fragments: string): Promise<WebGLProgram> {
  const program = gl.createProgram();
  const shaders = [gl.VERTEX_SHADER, gl.FRAGMENT_SHADER].map((type, i) => {
    const shader = gl.createShader(type)!;
    gl.shaderSource(shader, [vertices, fragments][i]!);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
    return shader;
  });
  gl.linkProgram(program);
  const parallel = gl.getExtension("KHR_parallel_shader_compile");
  while (parallel && !gl.isContextLost() && !gl.getProgramParameter(program, parallel.COMPLETION_STATUS_KHR)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
    const told = [...shaders.map((shader) => gl.getShaderInfoLog(shader)), gl.getProgramInfoLog(program)];
    throw new InvError(
      "unsupported",
      `the graphics driver refuses the shader: ${told.filter(Boolean).join(" ").trim()}`,
    );
  }
  for (const shader of shaders) gl.deleteShader(shader);
  return program;
}
